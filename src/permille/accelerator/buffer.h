/* Bytes that grow. A piece of _usual.c. */

typedef struct {
    uint8_t *p;
    size_t n, cap;
} buffer;

static int reserve(buffer *b, size_t more)
{
    if (b->cap - b->n >= more)
        return 1;
    size_t cap = b->cap * 2 + more + 64;
    uint8_t *p = realloc(b->p, cap);
    if (!p)
        return 0;
    b->p = p;
    b->cap = cap;
    return 1;
}

/* These write into what was reserved. */
static inline void put(buffer *b, const void *p, size_t n)
{
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
}

static inline void put_byte(buffer *b, uint8_t byte) { b->p[b->n++] = byte; }

#define PUT(b, literal) put(b, literal, sizeof(literal) - 1)

static void write_big_endian(uint8_t *p, uint64_t value, int n)
{
    for (int i = n - 1; i >= 0; i--, value >>= 8)
        p[i] = (uint8_t)value;
}

static void put_big_endian(buffer *b, uint64_t value, int n)
{
    write_big_endian(b->p + b->n, value, n);
    b->n += (size_t)n;
}
