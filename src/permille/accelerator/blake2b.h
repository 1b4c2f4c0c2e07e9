/* Blake2b of RFC 7693, without a key, for digests of 8 and 16 bytes. A piece of _usual.c. */

static const uint64_t INITIAL[8] = {
    0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL, 0xa54ff53a5f1d36f1ULL,
    0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL, 0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL};

static const uint8_t SIGMA[12][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3}};

static inline uint64_t rotated(uint64_t x, int n) { return x >> n | x << (64 - n); }

static inline uint64_t little_endian(const uint8_t *p)
{
    uint64_t x = 0;
    for (int i = 7; i >= 0; i--)
        x = x << 8 | p[i];
    return x;
}

#define MIX(r, i, a, b, c, d)                 \
    a = a + b + m[SIGMA[r][2 * i]];           \
    d = rotated(d ^ a, 32);                   \
    c = c + d;                                \
    b = rotated(b ^ c, 24);                   \
    a = a + b + m[SIGMA[r][2 * i + 1]];       \
    d = rotated(d ^ a, 16);                   \
    c = c + d;                                \
    b = rotated(b ^ c, 63);

static void blake2b(uint8_t *digest, size_t digest_n, const uint8_t *in, size_t n)
{
    uint64_t h[8], t = 0;
    memcpy(h, INITIAL, sizeof h);
    h[0] ^= 0x01010000ULL ^ (uint64_t)digest_n;
    for (;;) {
        uint8_t block[128] = {0};
        uint64_t m[16], v[16];
        size_t take = n > 128 ? 128 : n;
        int is_last = n <= 128;
        if (take)
            memcpy(block, in, take);
        in += take;
        n -= take;
        t += take;
        for (int i = 0; i < 16; i++)
            m[i] = little_endian(block + 8 * i);
        memcpy(v, h, sizeof h);
        memcpy(v + 8, INITIAL, sizeof h);
        v[12] ^= t;
        if (is_last)
            v[14] = ~v[14];
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 12
#endif
        for (int r = 0; r < 12; r++) {
            MIX(r, 0, v[0], v[4], v[8], v[12])
            MIX(r, 1, v[1], v[5], v[9], v[13])
            MIX(r, 2, v[2], v[6], v[10], v[14])
            MIX(r, 3, v[3], v[7], v[11], v[15])
            MIX(r, 4, v[0], v[5], v[10], v[15])
            MIX(r, 5, v[1], v[6], v[11], v[12])
            MIX(r, 6, v[2], v[7], v[8], v[13])
            MIX(r, 7, v[3], v[4], v[9], v[14])
        }
        for (int i = 0; i < 8; i++)
            h[i] ^= v[i] ^ v[i + 8];
        if (is_last)
            break;
    }
    for (size_t i = 0; i < digest_n; i++)
        digest[i] = (uint8_t)(h[i / 8] >> 8 * (i % 8));
}
