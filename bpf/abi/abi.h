/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * How C says what user space may see. The generator reads these marks from BTF.
 *
 * Map keys and values are seen by themselves. Whatever else user space reads or writes is named
 * here: EXPORT for structs and enums, CONFIG for constants that the loader sets before the verifier
 * runs.
 */
#ifndef CILIATE_ABI_ABI_H
#define CILIATE_ABI_ABI_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define ABI_JOIN_(a, b) a##b
#define ABI_JOIN(a, b) ABI_JOIN_(a, b)

/* A sentence for people, on a struct, a member, a typedef or a variable. */
#define DOC(text) __attribute__((btf_decl_tag(text)))

/* EXPORT(struct drop_event); EXPORT(enum verdict); The pointer is never read: it keeps the type in
 * BTF. */
#define EXPORT(type) type *ABI_JOIN(__export_, __COUNTER__) SEC(".abi")

/* CONFIG(bool, strip_options, "what it does when set") = false; Constant for the verifier. */
#define CONFIG(type, name, doc) volatile const type name DOC(doc)

/*
 * An enum whose values carry a sentence each:
 *	#define DROP_REASONS(X) X(DROP_NO_BACKEND, 1, "the service has no backend")
 *	EXPORT_ENUM(drop_reason, DROP_REASONS);
 * BTF has no tags on enumerators, so the sentences ride on the members of a struct nobody uses.
 */
#define ABI_ENUM_VALUE(name, value, doc) name = value,
#define ABI_ENUM_DOC(name, value, doc) __u8 name DOC(doc);
#define EXPORT_ENUM(tag, LIST)                                                                     \
	enum tag { LIST(ABI_ENUM_VALUE) };                                                         \
	struct tag##__docs {                                                                       \
		LIST(ABI_ENUM_DOC)                                                                 \
	};                                                                                         \
	EXPORT(enum tag);                                                                          \
	EXPORT(struct tag##__docs)

#endif
