/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* One of every kind of type that BTF has. Read by btf.test.ts, never loaded. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define TAG(text) __attribute__((btf_decl_tag(text)))

typedef __be32 address_t TAG("an address");
typedef address_t peer_t;

enum small { SMALL_MINUS = -1, SMALL_ONE = 1 };
enum plain { PLAIN_HIGH = 0xffffffffu, PLAIN_LOW = 0 };
enum wide { WIDE_HIGH = 0x8000000000000001ull, WIDE_LOW = 2 };
enum wide_signed { WIDE_MINUS = -0x100000000ll, WIDE_ZERO = 0 };

struct elsewhere;
union elsewhere_too;

union either {
	__u32 number;
	float fraction;
};

struct bits {
	__u8 low : 3;
	__u8 high : 5;
	__s16 rest : 9;
};

struct all {
	peer_t peer TAG("who it is");
	__u16 pair[2][3];
	enum small small;
	enum plain plain;
	enum wide wide;
	enum wide_signed wide_signed;
	union either either;
	struct bits bits;
	struct elsewhere *elsewhere;
	union elsewhere_too *elsewhere_too;
	const volatile char *restrict text;
	int (*callback)(struct all *all, __u64 flags);
	_Bool yes;
	double number;
	struct {
		__s64 nested;
	};
	int __attribute__((btf_type_tag("user"))) * tagged;
} TAG("everything");

volatile const address_t gateway TAG("where packets leave") = 0x0100000a;
struct all everything TAG("first") TAG("second");

SEC("tc")
int read_all(struct __sk_buff *packet)
{
	return everything.yes ? (int)gateway : everything.bits.low;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
