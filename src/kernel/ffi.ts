// SPDX-License-Identifier: Apache-2.0

// Every foreign function stands here, and nothing else imports koffi. Calls follow the kernel's own
// convention: a value >= 0, or -errno; nothing here throws for a failed call, error.ts gives it
// words.

import koffi, { type LibraryHandle } from "koffi";

/** An address in this process; 0n is NULL. */
export type Pointer = bigint;

const NUMBERS = { x64: { bpf: 321, membarrier: 324 }, arm64: { bpf: 280, membarrier: 283 } };

function syscallNumbers(): { readonly bpf: number; readonly membarrier: number } {
  if (process.arch === "x64" || process.arch === "arm64") return NUMBERS[process.arch];
  throw new Error(`cannot call the kernel on ${process.arch}: run on x64 or arm64`);
}

const syscalls = syscallNumbers();
const libc = koffi.load(null); // the C library that Node itself runs on, glibc or musl

/** A foreign function that returns an int. */
export type Call<Args extends readonly unknown[]> = (...args: Args) => number;
type Memory = Uint8Array | Pointer | null;
type Completion = (error: unknown, value: number) => void;

/** koffi.errno() is only true right after a failure, so it is read here and nowhere else. */
function checked(value: number): number {
  return value === -1 ? -koffi.errno() : value;
}

function checkedPointer(value: Pointer | null): Pointer | number {
  return value === null || value === 0n || value === MAP_FAILED ? -koffi.errno() : value;
}

function promised(start: (done: Completion) => void): Promise<number> {
  return new Promise((resolve, reject) => {
    start((error, value) => {
      if (error) reject(error);
      else resolve(checked(value));
    });
  });
}

/**
 * The address of these bytes, for a struct that carries pointers. It holds as long as the array
 * lives: keep a reference to `bytes` until the call has returned.
 */
export function address(bytes: Uint8Array): Pointer {
  return koffi.address(bytes);
}

/**
 * Memory outside of JavaScript as an ArrayBuffer. Detach it (`.transfer()`) before the memory goes
 * away.
 */
export function viewMemory(pointer: Pointer, lengthBytes: number): ArrayBuffer {
  return koffi.view(pointer, lengthBytes);
}

const cStrerror: (errno: number) => string = libc.func("const char *strerror(int errnum)");

/** The C library's words for an errno (positive). */
export function strerror(errno: number): string {
  return cStrerror(errno);
}

const cOpen: Call<[string, number, number]> = libc.func(
  "int open(const char *path, int flags, uint32_t mode)",
);
const cClose: Call<[number]> = libc.func("int close(int fd)");
const cFcntl: Call<[number, number, number]> = libc.func("int fcntl(int fd, int cmd, int arg)");
const cFlock: Call<[number, number]> = libc.func("int flock(int fd, int operation)");

export const O_RDONLY = 0;
const O_CLOEXEC = 0o2000000;

/** open(2); O_CLOEXEC is always added. Returns an fd. */
export function open(path: string, flags: number, mode = 0): number {
  return checked(cOpen(path, flags | O_CLOEXEC, mode));
}

/** close(2). */
export function close(fd: number): number {
  return checked(cClose(fd));
}

const cSigmask: Call<[number, Memory, Memory]> = libc.func(
  "int pthread_sigmask(int how, const void *set, void *old)",
);
const SIG_SETMASK = 2;

/** Sets this thread's blocked signals, 128 bytes of bits; `old` receives what they were. */
export function setSignalMask(set: Uint8Array, old: Uint8Array | null): number {
  return -cSigmask(SIG_SETMASK, set, old); // pthread functions return the errno itself
}

const F_DUPFD_CLOEXEC = 1030;

/** A second descriptor, close-on-exec, for what `fd` names. */
export function duplicate(fd: number): number {
  return checked(cFcntl(fd, F_DUPFD_CLOEXEC, 3));
}

/** fcntl(2) with an integer argument. */
export function fileControl(fd: number, command: number, argument: number): number {
  return checked(cFcntl(fd, command, argument));
}

const LOCK_EXCLUSIVE = 2;
const LOCK_NONBLOCK = 4;

/** flock(2): takes the file's lock until `fd` is closed; -EWOULDBLOCK when another has it. */
export function lockFile(fd: number): number {
  return checked(cFlock(fd, LOCK_EXCLUSIVE | LOCK_NONBLOCK));
}

const cSocket: Call<[number, number, number]> = libc.func(
  "int socket(int domain, int type, int protocol)",
);
const cBind: Call<[number, Memory, number]> = libc.func(
  "int bind(int fd, const void *addr, uint32_t len)",
);
const cSend: Call<[number, Memory, number, number]> = libc.func(
  "int64_t send(int fd, const void *buf, size_t len, int flags)",
);
const cSendTo: Call<[number, Memory, number, number, Memory, number]> = libc.func(
  "int64_t sendto(int fd, const void *buf, size_t len, int flags, const void *addr, uint32_t alen)",
);
const cReceive: Call<[number, Memory, number, number]> = libc.func(
  "int64_t recv(int fd, void *buf, size_t len, int flags)",
);
const cSetSockOpt: Call<[number, number, number, Memory, number]> = libc.func(
  "int setsockopt(int fd, int level, int name, const void *value, uint32_t len)",
);
const cGetSockOpt: Call<[number, number, number, Memory, Memory]> = libc.func(
  "int getsockopt(int fd, int level, int name, void *value, void *len)",
);
const SOCK_CLOEXEC = O_CLOEXEC;

/**
 * socket(2); SOCK_CLOEXEC is always added. The socket lives in the calling thread's network
 * namespace for good.
 */
export function socket(domain: number, type: number, protocol: number): number {
  return checked(cSocket(domain, type | SOCK_CLOEXEC, protocol));
}

/** bind(2) to an encoded sockaddr. */
export function bind(fd: number, sockaddr: Uint8Array): number {
  return checked(cBind(fd, sockaddr, sockaddr.byteLength));
}

/** send(2). Returns the bytes sent. */
export function send(fd: number, bytes: Uint8Array, flags = 0): number {
  return checked(cSend(fd, bytes, bytes.byteLength, flags));
}

/** sendto(2) to an encoded sockaddr. Returns the bytes sent. */
export function sendTo(fd: number, bytes: Uint8Array, flags: number, sockaddr: Uint8Array): number {
  return checked(cSendTo(fd, bytes, bytes.byteLength, flags, sockaddr, sockaddr.byteLength));
}

/**
 * recv(2) into `into`. Returns the bytes received; with MSG_TRUNC the full length of the datagram.
 */
export function receive(fd: number, into: Uint8Array, flags = 0): number {
  return checked(cReceive(fd, into, into.byteLength, flags));
}

/** setsockopt(2) with the option's raw value. */
export function setSocketOption(
  fd: number,
  level: number,
  name: number,
  value: Uint8Array,
): number {
  return checked(cSetSockOpt(fd, level, name, value, value.byteLength));
}

/** getsockopt(2) into `value`. Returns the length of what the kernel wrote. */
export function getSocketOption(
  fd: number,
  level: number,
  name: number,
  value: Uint8Array,
): number {
  const length = lengthBytes(value.byteLength);
  const result = checked(cGetSockOpt(fd, level, name, value, length));
  return result < 0 ? result : readLength(length);
}

function lengthBytes(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function readLength(bytes: Uint8Array): number {
  return new DataView(bytes.buffer).getUint32(0, true);
}

const cSetns: Call<[number, number]> = libc.func("int setns(int fd, int nstype)");
const cUnshare: Call<[number]> = libc.func("int unshare(int flags)");
const cMount: Call<[string, string, string | null, number, string | null]> = libc.func(
  "mount",
  "int",
  ["const char *", "const char *", "const char *", "unsigned long", "const char *"],
);
const cUnmount: Call<[string, number]> = libc.func("int umount2(const char *target, int flags)");
const cStatfs: Call<[string, Memory]> = libc.func("int statfs(const char *path, void *buf)");
const cIfIndex: Call<[string]> = libc.func("uint32_t if_nametoindex(const char *name)");

/** setns(2): moves the calling thread into a namespace. */
export function setns(fd: number, namespaceType: number): number {
  return checked(cSetns(fd, namespaceType));
}

/** unshare(2): gives the calling thread namespaces of its own. */
export function unshare(flags: number): number {
  return checked(cUnshare(flags));
}

/** mount(2). */
export function mount(
  source: string,
  target: string,
  type: string | null,
  flags: number,
  data: string | null = null,
): number {
  return checked(cMount(source, target, type, flags, data));
}

/** umount2(2). */
export function unmount(target: string, flags = 0): number {
  return checked(cUnmount(target, flags));
}

/** The magic number of the file system that holds `path` (statfs(2), f_type), or -errno. */
export function fileSystemType(path: string): number {
  const buffer = new Uint8Array(256);
  const result = checked(cStatfs(path, buffer));
  return result < 0 ? result : new DataView(buffer.buffer).getUint32(0, true);
}

const cIfName: (index: number, name: Memory) => unknown = libc.func(
  "const char *if_indextoname(uint32_t index, void *name)",
);

/** The name of a device in the calling thread's network namespace; undefined when there is none. */
export function interfaceName(index: number): string | undefined {
  const name = new Uint8Array(16);
  if (cIfName(index, name) === null) return undefined;
  return new TextDecoder().decode(name.subarray(0, name.indexOf(0)));
}

/** The index of a device in the calling thread's network namespace, or -errno. */
export function interfaceIndex(name: string): number {
  const index = cIfIndex(name);
  return index === 0 ? -koffi.errno() : index;
}

const cClockGetTime: Call<[number, Memory]> = libc.func(
  "int clock_gettime(int clockid, void *time)",
);

/** clock_gettime(2): fills a struct timespec, 64-bit seconds and nanoseconds. Returns 0. */
export function clockGetTime(clock: number, time: Uint8Array): number {
  return checked(cClockGetTime(clock, time));
}

const cSysconf: (name: number) => number = libc.func("long sysconf(int name)");
const SC_PAGESIZE = 30;

/** The size of a page of memory, in bytes. */
export function pageSize(): number {
  return cSysconf(SC_PAGESIZE);
}

/** Not in musl, which gives back what is freed by itself. */
const cMallocTrim = optional("int malloc_trim(size_t keep)");

/** malloc_trim(3): gives freed memory back, in the heaps of all threads; on another thread. */
export async function trimHeap(): Promise<void> {
  if (cMallocTrim !== undefined) await promised((done) => cMallocTrim.async(0, done));
}

function optional(prototype: string): ReturnType<typeof libc.func> | undefined {
  try {
    return libc.func(prototype);
  } catch {
    return undefined;
  }
}

const cPoll: Call<[Memory, number, number]> = libc.func(
  "int poll(void *fds, unsigned long count, int timeout)",
);
const cMmap: (
  at: Pointer,
  length: number,
  prot: number,
  flags: number,
  fd: number,
  offset: number,
) => Pointer | null = libc.func(
  "void *mmap(void *addr, size_t len, int prot, int flags, int fd, int64_t offset)",
);
const cMunmap: Call<[Pointer, number]> = libc.func("int munmap(void *addr, size_t len)");

const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 1;
export const POLLIN = 1;

/**
 * poll(2) on one fd, blocking the thread for at most `timeoutMs`. Returns the events that came, 0
 * for none.
 */
export function poll(fd: number, events: number, timeoutMs: number): number {
  const request = new Uint8Array(8); // struct pollfd
  const view = new DataView(request.buffer);
  view.setInt32(0, fd, true);
  view.setInt16(4, events, true);
  const result = checked(cPoll(request, 1, timeoutMs));
  return result <= 0 ? result : view.getInt16(6, true);
}

/** mmap(2) at an address of the kernel's choice. Returns the address, or -errno as a number. */
export function mmap(
  length: number,
  protection: number,
  flags: number,
  fd: number,
  offset = 0,
): Pointer | number {
  return checkedPointer(cMmap(0n, length, protection, flags, fd, offset));
}

/** munmap(2). Every ArrayBuffer over the range must be detached before. */
export function munmap(at: Pointer, length: number): number {
  return checked(cMunmap(at, length));
}

const cGetAffinity: Call<[number, number, Memory]> = libc.func(
  "int sched_getaffinity(int pid, size_t size, void *mask)",
);
const cSetAffinity: Call<[number, number, Memory]> = libc.func(
  "int sched_setaffinity(int pid, size_t size, const void *mask)",
);

/** The CPUs that the calling thread may run on, a bit each. */
export function getAffinity(mask: Uint8Array): number {
  return checked(cGetAffinity(0, mask.byteLength, mask));
}

/** Keeps the calling thread on the CPUs whose bits are set. */
export function setAffinity(mask: Uint8Array): number {
  return checked(cSetAffinity(0, mask.byteLength, mask));
}

const cSyscall = libc.func("int64_t syscall(int64_t number, int64_t a, uint64_t b, uint64_t c)");
const cBpf: Call<[number, number, Memory, number]> = libc.func("syscall", "int64_t", [
  "int64_t",
  "int64_t",
  "void *",
  "uint64_t",
]);

/**
 * bpf(2). `attr` is an encoded union bpf_attr. Returns what the kernel returns: an fd, 0, or
 * -errno.
 */
export function bpf(command: number, attr: Uint8Array): number {
  return checked(cBpf(syscalls.bpf, command, attr, attr.byteLength));
}

/** membarrier(2) on koffi's thread pool: for the main thread only, never in a Worker. */
export function membarrierAsync(command: number): Promise<number> {
  return promised((done) => cSyscall.async(syscalls.membarrier, command, 0, 0, done));
}

/**
 * A shared library, whose functions are declared with C's types and called with JavaScript's
 * values.
 */
export type Library = LibraryHandle;

/** Loads a shared library by its soname. Throws when there is none. */
export function openLibrary(soname: string): Library {
  return koffi.load(soname);
}

/** The errno of a foreign call that has just failed; stale after any other. */
export function lastErrno(): number {
  return koffi.errno();
}

type Print = (level: number, format: string, variadic: Pointer) => number;

const PrintFunction = koffi.proto("int Print(int level, const char *format, void *variadic)");
const cFormat: Call<[Memory, number, string, Pointer]> = libc.func(
  "int vsnprintf(void *into, size_t size, const char *format, void *variadic)",
);

/** Text that C hands over as a printf format and its va_list, at most `maxBytes` long. */
export function formatVariadic(format: string, variadic: Pointer, maxBytes: number): string {
  // A va_list goes by reference on x64 and arm64 alike, so that it can be handed on as a pointer.
  const text = new Uint8Array(maxBytes);
  cFormat(text, text.byteLength, format, variadic);
  return new TextDecoder().decode(text.subarray(0, text.indexOf(0)));
}

/** Runs `action` with `print` as a C function that the calling thread may call meanwhile. */
export function withPrintFunction<Result>(
  print: Print,
  action: (pointer: Pointer) => Result,
): Result {
  const pointer = koffi.register(print, koffi.pointer(PrintFunction));
  try {
    return action(pointer);
  } finally {
    koffi.unregister(pointer);
  }
}
