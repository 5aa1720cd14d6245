// Functions marked NCODE_AVX2_TOO are compiled twice, for any x86-64 processor and for those with AVX2, and the loader
// takes the one that fits: their loops run up to twice as fast there. The results are the same. Elsewhere, and under
// the sanitizers (which must be running before such a choice is made), the mark means nothing.
#pragma once

#include <cstddef>  // defines __GLIBC__ where it applies

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute) && !defined(__SANITIZE_ADDRESS__)
#if __has_attribute(target_clones) && (!defined(__clang__) || __clang_major__ >= 16)
#define NCODE_AVX2_TOO __attribute__((flatten, target_clones("avx2", "default")))
#endif
#endif

#ifndef NCODE_AVX2_TOO
#define NCODE_AVX2_TOO
#endif
