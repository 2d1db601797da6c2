// SPDX-License-Identifier: Apache-2.0

// libbpf for what is hard in an ELF object: relocations, CO-RE, loading. bpf(2) does the rest.

import * as sys from "./ffi.ts";

type Struct = sys.Pointer | null; // struct bpf_object *, bpf_map *, bpf_program *, btf *

function openLibbpf(): sys.Library {
  try {
    return sys.openLibrary("libbpf.so.1");
  } catch (cause) {
    throw new Error("cannot load libbpf.so.1: install libbpf 1.0 or newer (Debian: libbpf1)", {
      cause,
    });
  }
}

function bindLibbpf() {
  const lib = openLibbpf();
  const int = <Args extends readonly unknown[]>(name: string, ...args: string[]): sys.Call<Args> =>
    lib.func(name, "int", args);
  const pointer = <Args extends readonly unknown[]>(
    name: string,
    ...args: string[]
  ): ((...args: Args) => Struct) => lib.func(name, "void *", args);
  const text = (name: string): ((of: Struct) => string) =>
    lib.func(name, "const char *", ["void *"]);
  const setPrint: (print: sys.Pointer | null) => unknown = lib.func(
    "void *libbpf_set_print(void *print)",
  );
  setPrint(null); // it writes to stderr by itself; KernelError says it once instead
  return {
    setPrint,
    objectOpenMemory: pointer<[Uint8Array, number, Uint8Array]>(
      "bpf_object__open_mem",
      ...["void *", "size_t", "void *"],
    ),
    objectLoad: int<[Struct]>("bpf_object__load", "void *"),
    objectClose: lib.func("bpf_object__close", "void", ["void *"]) as (object: Struct) => void,
    objectBtf: pointer<[Struct]>("bpf_object__btf", "void *"),
    btfRawData: pointer<[Struct, Uint8Array]>("btf__raw_data", "void *", "void *"),
    nextMap: pointer<[Struct, Struct]>("bpf_object__next_map", "void *", "void *"),
    nextProgram: pointer<[Struct, Struct]>("bpf_object__next_program", "void *", "void *"),
    mapName: text("bpf_map__name"),
    mapFd: int<[Struct]>("bpf_map__fd", "void *"),
    mapType: int<[Struct]>("bpf_map__type", "void *"),
    mapKeySize: int<[Struct]>("bpf_map__key_size", "void *"),
    mapValueSize: int<[Struct]>("bpf_map__value_size", "void *"),
    mapMaxEntries: int<[Struct]>("bpf_map__max_entries", "void *"),
    mapFlags: int<[Struct]>("bpf_map__map_flags", "void *"),
    mapKeyTypeId: int<[Struct]>("bpf_map__btf_key_type_id", "void *"),
    mapValueTypeId: int<[Struct]>("bpf_map__btf_value_type_id", "void *"),
    mapSetMaxEntries: int<[Struct, number]>("bpf_map__set_max_entries", "void *", "uint32_t"),
    mapSetPinPath: int<[Struct, null]>("bpf_map__set_pin_path", "void *", "const char *"),
    mapReuseFd: int<[Struct, number]>("bpf_map__reuse_fd", "void *", "int"),
    mapInitialValue: pointer<[Struct, Uint8Array]>("bpf_map__initial_value", "void *", "void *"),
    mapSetInitialValue: int<[Struct, Uint8Array, number]>(
      "bpf_map__set_initial_value",
      ...["void *", "void *", "size_t"],
    ),
    programName: text("bpf_program__name"),
    programSection: text("bpf_program__section_name"),
    programFd: int<[Struct]>("bpf_program__fd", "void *"),
    programType: int<[Struct]>("bpf_program__type", "void *"),
    programSetType: int<[Struct, number]>("bpf_program__set_type", "void *", "int"),
    programAttachType: int<[Struct]>("bpf_program__expected_attach_type", "void *"),
    programSetAttachType: int<[Struct, number]>(
      "bpf_program__set_expected_attach_type",
      ...["void *", "int"],
    ),
    programAutoload: lib.func("bpf_program__autoload", "bool", ["void *"]) as (
      p: Struct,
    ) => boolean,
    programSetAutoload: int<[Struct, boolean]>("bpf_program__set_autoload", "void *", "bool"),
    programSetLogBuffer: int<[Struct, sys.Pointer, number]>(
      "bpf_program__set_log_buf",
      ...["void *", "void *", "size_t"],
    ),
  };
}

type Libbpf = ReturnType<typeof bindLibbpf>;
let bound: Libbpf | undefined;

/**
 * libbpf's ELF half, loaded at the first use. Functions that return an int return -errno; pointers
 * may be null.
 */
export function libbpf(): Libbpf {
  bound ??= bindLibbpf();
  return bound;
}

const DEBUG = 2;
const MAX_LINE_BYTES = 1024;

/**
 * Runs `action` and gives each line that libbpf has to say meanwhile, debug chatter left out, to
 * `heard`.
 */
export function listenToLibbpf<Result>(
  heard: (line: string) => void,
  action: () => Result,
): Result {
  const { setPrint } = libbpf();
  const print = (level: number, format: string, variadic: sys.Pointer): number => {
    if (level < DEBUG) heard(sys.formatVariadic(format, variadic, MAX_LINE_BYTES).trimEnd());
    return 0;
  };
  return sys.withPrintFunction(print, (pointer) => {
    setPrint(pointer);
    try {
      return action();
    } finally {
      setPrint(null);
    }
  });
}
