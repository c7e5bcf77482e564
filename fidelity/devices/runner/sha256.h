/* SHA-256 (FIPS 180-4): what model, inputs and outputs are known by. */

#ifndef FIDELITY_SHA256_H
#define FIDELITY_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_HEX = 65 };

struct sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    uint8_t block[64];
};

void sha256_start(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *bytes, size_t count);
void sha256_end(struct sha256 *hash, char hex[SHA256_HEX]);

/* The digest of one piece of memory. */
void sha256_hex(const void *bytes, size_t count, char hex[SHA256_HEX]);

#endif
