# SPDX-License-Identifier: Apache-2.0
# Every target brings what it needs by itself (tools/setup says nothing when all is there).

MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CLANG ?= clang-19
CLANG_FORMAT ?= clang-format-19
NODE := toolchain/node
NPM_BIN := node_modules/.bin

PREFIX ?= /usr/local
DESTDIR ?=
LIB = $(DESTDIR)$(PREFIX)/lib/ciliate
UNITS = $(DESTDIR)$(PREFIX)/lib/systemd/system
EXAMPLES = $(DESTDIR)$(PREFIX)/share/doc/ciliate

# build/X.bpf.o comes from X.bpf.c: the packet path from bpf/, and what bench and tests have
# beside them.
BPF_SOURCES := $(sort $(shell find $(wildcard bpf bench src test) -name '*.bpf.c'))
BPF_OBJECTS := $(BPF_SOURCES:%.bpf.c=build/%.bpf.o)
PACKET_PATH := $(filter build/bpf/%,$(BPF_OBJECTS))

# No kernel's vmlinux.h: an object is built once, against the ABI headers of Debian 12, and
# runs from 6.1 on. -MMD: a changed header rebuilds what includes it.
BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter \
	-Ibpf -idirafter /usr/include/$(shell uname -m)-linux-gnu -ffile-prefix-map=$(CURDIR)=.

# What `make generate` writes, so what `make check` finds stale.
GENERATED := src/datapath/gen src/api/gen bpf/abi.txt docs/configuration.md deploy/ciliate.yaml

##@ Use

.PHONY: demo
demo: run-ready ## Watch connections go client, balancer, pod, and straight back
	@$(NODE) tools/demo.ts

.PHONY: setup
setup: ## Bring packages, Node and npm modules (twice in a row costs a second)
	@tools/setup node build check lab

.PHONY: install
install: bundle ## Install the bundle and its Node under PREFIX (/usr/local), below DESTDIR
	rm -rf $(LIB)
	install -d $(LIB)/bin $(LIB)/bpf $(DESTDIR)$(PREFIX)/bin $(UNITS) $(EXAMPLES)
	install -m 644 build/bundle/*.mjs build/bundle/koffi.node $(LIB)
	install -m 644 build/bundle/bpf/*.o $(LIB)/bpf
	install -m 755 "$$($(NODE) -p process.execPath)" $(LIB)/node
	install -m 755 bin/ciliate $(LIB)/bin/ciliate
	ln -sf ../lib/ciliate/bin/ciliate $(DESTDIR)$(PREFIX)/bin/ciliate
	sed 's,/usr/local/bin,$(PREFIX)/bin,' deploy/ciliate.service >$(UNITS)/ciliate.service
	install -m 644 deploy/ciliate.yaml $(EXAMPLES)

.PHONY: uninstall
uninstall: ## Remove what install put there
	rm -rf $(LIB) $(EXAMPLES)
	rm -f $(DESTDIR)$(PREFIX)/bin/ciliate $(UNITS)/ciliate.service

##@ Work

.PHONY: test
test: check run-ready bundle ## Check, then run every test
	@$(NODE) tools/run-tests.ts

.PHONY: tests
tests: run-ready bundle ## Run tests only: all, or T=FILE|GLOB; of them N=NAME (a regular expression)
	@$(NODE) tools/run-tests.ts $(if $(N),--name "$$N") $(T)

.PHONY: check
check: setup-check setup-node bpf bpf-headers ## Generated files, format, lint, types, the house's rules
	@GENERATED="$(GENERATED)" CLANG_FORMAT=$(CLANG_FORMAT) tools/check

.PHONY: format
format: setup-check setup-node ## Format TypeScript and C as check wants them
	@$(NPM_BIN)/biome check --write .
	@find $(wildcard bpf bench src test) \( -name '*.c' -o -name '*.h' \) \
		-not -path '*/gen/*' -exec $(CLANG_FORMAT) -i {} +

.PHONY: generate
generate: setup-node bpf ## Rewrite what follows from C, from the schema and from .proto files
	@tools/generate

.PHONY: bench
bench: run-ready bundle ## Measure; prints tables, writes bench/results.json
	@$(NODE) bench/main.ts

.PHONY: soak
soak: run-ready ## Run the long campaigns, all or T='--minutes 10 churn': tests with larger budgets
	@$(NODE) test/soak.ts $(T)

.PHONY: mutants
mutants: run-ready ## Plant faults one by one; the tests must catch every one
	@$(NODE) test/mutants.ts

.PHONY: test-kernels
test-kernels: setup-kernels run-ready bundle ## Boot Debian's 6.1 and 6.12 and test there (K=6.1, T=FILE|GLOB)
	@tools/kernels
	@$(NODE) test/kernels/main.ts $(K:%=--kernel %) $(T)

##@ Parts

.PHONY: bpf
bpf: $(BPF_OBJECTS) ## Compile the BPF objects into build/

build/%.bpf.o: %.bpf.c Makefile | setup-build
	@mkdir -p $(@D)
	@echo "$(CLANG) $<"
	@$(CLANG) $(BPF_CFLAGS) -MMD -MP -c $< -o $@

# Each header of the packet path compiles alone; those of IPv6 end in 6.
HEADERS := $(sort $(shell find bpf -name '*.h'))
HEADERS_COMPILED := $(HEADERS:%=build/headers/%.o)

.PHONY: bpf-headers
bpf-headers: $(HEADERS_COMPILED)

build/headers/%.o: % Makefile | setup-build
	@mkdir -p $(@D)
	@$(CLANG) $(BPF_CFLAGS) $(if $(filter %6.h,$<),-DFAMILY_IPV6) -Wno-unused -MMD -MP -x c -c $< -o $@

-include $(BPF_OBJECTS:.o=.d) $(HEADERS_COMPILED:.o=.d)

.PHONY: bundle
bundle: build/bundle/ciliate.mjs ## Make build/bundle, the installed form: no sources, no node_modules

BUNDLED := $(shell find src -name '*.ts' -not -name '*.test.ts')

build/bundle/ciliate.mjs: $(BUNDLED) $(PACKET_PATH) tools/bundle.ts package-lock.json | setup-node
	@echo "esbuild $@"
	@$(NODE) tools/bundle.ts

.PHONY: clean
clean: ## Remove what was built
	rm -rf build

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^##@ /{print "\n" substr($$0, 5)} \
		/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# Ready to run anything of ours on this machine.
.PHONY: run-ready
run-ready: setup-node setup-lab bpf

# A group of tools/packages.txt, or `node`.
.PHONY: setup-build setup-check setup-lab setup-kernels setup-node
setup-build setup-check setup-lab setup-kernels setup-node: setup-%:
	@tools/setup $*
