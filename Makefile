# SPDX-License-Identifier: Apache-2.0
# Every target brings what it needs by itself (tools/setup says nothing when all is there).

MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CLANG ?= clang-19
CLANG_FORMAT ?= clang-format-19
NODE := toolchain/node

# One object per place where a packet meets us; bench and tests have their own beside them.
# build/X.bpf.o comes from X.bpf.c, so build/bpf/edge.bpf.o from bpf/edge.bpf.c.
BPF_SOURCES := $(sort $(shell find bpf bench src test -name '*.bpf.c'))
BPF_OBJECTS := $(BPF_SOURCES:%.bpf.c=build/%.bpf.o)

# No kernel's vmlinux.h: an object is built once, against the ABI headers of Debian 12, and
# runs from 6.1 on. -MMD: a changed header rebuilds what includes it.
BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter \
	-Ibpf -idirafter /usr/include/$(shell uname -m)-linux-gnu -ffile-prefix-map=$(CURDIR)=.

##@ Work

.PHONY: setup
setup: ## Bring packages, Node and npm modules (twice in a row costs a second)
	@tools/setup node build check lab

.PHONY: bpf
bpf: $(BPF_OBJECTS) ## Compile the BPF objects into build/

build/%.bpf.o: %.bpf.c Makefile | setup-build
	@mkdir -p $(@D)
	$(CLANG) $(BPF_CFLAGS) -MMD -MP -c $< -o $@

-include $(BPF_OBJECTS:.o=.d)

.PHONY: clean
clean: ## Remove what was built
	rm -rf build

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^##@ /{print "\n" substr($$0, 5)} /^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' \
		$(firstword $(MAKEFILE_LIST))

# A group of tools/packages.txt, or `node`.
.PHONY: setup-build setup-check setup-lab setup-kernels setup-node
setup-build setup-check setup-lab setup-kernels setup-node: setup-%:
	@tools/setup $*
