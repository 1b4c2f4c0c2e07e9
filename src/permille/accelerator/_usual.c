/* Usual bodies of POST /api/v1/events and /events/batch in one pass: from JSON to columns of PostgreSQL's parameters
   and the answer. Whatever is unusual makes `read` return None: then Python reads the body from its beginning.

   What it may take, and what it makes of it, is said by ingest/decoders/lago.py, events/draft.py, events/identity.py,
   core/metering/encoding.py and events/postgres/arrays.py; tests/ingest/test_accelerator.py compares byte by byte.
   Texts are UTF-8 that was checked; numbers are kept as the text that was sent. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <sys/random.h>
#endif

#define BODY_MAX (1 << 30)
#define SPARE_MAX (8 << 20)
#define NAME_MAX_CHARS 255      /* core/bounds.py NAME_MAX */
#define PROPERTIES_BYTES_MAX 60000 /* below PROPERTY_MAX, so that no bound of an event is met */
#define ENTRIES_MAX 64
#define NESTED_NAMES_MAX 32
#define NAMES_MAX 500           /* below PROPERTIES_MAX */
#define DEPTH_MAX 8             /* below PROPERTIES_DEPTH_MAX */
#define DIGITS_MAX 38           /* core/bounds.py DIGITS_MAX */
#define KEYS_MAX 32
#define SERIES_KEY_MAX 40000
#define SERIES_BYTES 96         /* what a series takes beside its key */
#define SECONDS_END 7258118400LL /* core/bounds.py LATEST */
#define SECONDS_TO_2000 946684800LL
#define MICRO 1000000LL

/* ---- blake2b of RFC 7693, without a key, for digests of 8 and 16 bytes ---- */

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

/* ---- bytes that grow ---- */

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

/* ---- the series that are known, in two generations ---- */

typedef struct {
    uint64_t hash; /* 0: free */
    uint32_t key_at, key_n;
    int64_t id;
    uint8_t subscription[8]; /* the digest of its external subscription id */
} slot;

typedef struct {
    slot *slots;
    size_t mask, used;
    buffer keys;
} generation;

typedef struct {
    PyObject_HEAD
    pthread_mutex_t lock;
    uint64_t seed;
    size_t bytes_max; /* of one generation */
    generation lately, before;
} Table;

static inline uint64_t folded(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    wide r = (wide)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

/* Seeded, so that nobody can choose texts that meet in one place. */
static uint64_t hash_of(uint64_t seed, const uint8_t *p, size_t n)
{
    uint64_t h = seed ^ n, word;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&word, p, 8);
        h = folded(h ^ word, 0xA0761D6478BD642FULL ^ seed);
    }
    word = 0;
    if (n)
        memcpy(&word, p, n);
    h = folded(h ^ word, 0xE7037ED1A0B428DBULL ^ seed);
    return h ? h : 1;
}

static slot *find_in(const generation *g, uint64_t hash, const uint8_t *key, size_t n)
{
    if (!g->slots)
        return NULL;
    for (size_t i = hash & g->mask;; i = (i + 1) & g->mask) {
        slot *s = &g->slots[i];
        if (!s->hash || (s->hash == hash && s->key_n == n && !memcmp(g->keys.p + s->key_at, key, n)))
            return s;
    }
}

static int grow(generation *g)
{
    size_t count = g->slots ? (g->mask + 1) * 2 : 256;
    slot *fresh = calloc(count, sizeof(slot));
    if (!fresh)
        return 0;
    for (size_t i = 0; g->slots && i <= g->mask; i++) {
        if (!g->slots[i].hash)
            continue;
        size_t j = g->slots[i].hash & (count - 1);
        while (fresh[j].hash)
            j = (j + 1) & (count - 1);
        fresh[j] = g->slots[i];
    }
    free(g->slots);
    g->slots = fresh;
    g->mask = count - 1;
    return 1;
}

static void empty(generation *g)
{
    free(g->slots);
    free(g->keys.p);
    memset(g, 0, sizeof *g);
}

static inline size_t size_of(const generation *g) { return g->keys.n + g->used * SERIES_BYTES; }

/* What cannot be remembered is looked up again. The caller has the lock. */
static void keep(Table *t, uint64_t hash, const uint8_t *key, size_t n, int64_t id, const uint8_t *subscription)
{
    if (size_of(&t->lately) + n + SERIES_BYTES > t->bytes_max || t->lately.keys.n + n > UINT32_MAX) {
        empty(&t->before);
        t->before = t->lately;
        memset(&t->lately, 0, sizeof t->lately);
    }
    generation *g = &t->lately;
    if ((!g->slots || g->used * 4 > g->mask * 3) && !grow(g))
        return;
    slot *s = find_in(g, hash, key, n);
    if (!s->hash) {
        if (!reserve(&g->keys, n))
            return;
        s->key_at = (uint32_t)g->keys.n;
        s->key_n = (uint32_t)n;
        s->hash = hash;
        put(&g->keys, key, n);
        g->used++;
    }
    s->id = id;
    memcpy(s->subscription, subscription, 8);
}

static int recall(Table *t, const uint8_t *key, size_t n, int64_t *id, uint8_t *subscription)
{
    uint64_t hash = hash_of(t->seed, key, n);
    int found = 1;
    pthread_mutex_lock(&t->lock);
    slot *s = find_in(&t->lately, hash, key, n);
    if (s && s->hash) {
        *id = s->id;
        memcpy(subscription, s->subscription, 8);
    } else {
        s = find_in(&t->before, hash, key, n);
        found = s && s->hash;
        if (found) {
            *id = s->id;
            memcpy(subscription, s->subscription, 8);
            keep(t, hash, key, n, *id, subscription);
        }
    }
    pthread_mutex_unlock(&t->lock);
    return found;
}

static PyObject *Table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"bytes_max", NULL};
    Py_ssize_t bytes_max;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n", names, &bytes_max))
        return NULL;
    Table *self = (Table *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    pthread_mutex_init(&self->lock, NULL);
    self->bytes_max = bytes_max > 0 ? (size_t)bytes_max / 2 : 0;
    if (getentropy(&self->seed, sizeof self->seed)) {
        Py_DECREF(self);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return (PyObject *)self;
}

static void Table_dealloc(Table *self)
{
    empty(&self->lately);
    empty(&self->before);
    pthread_mutex_destroy(&self->lock);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *Table_series(Table *self, void *unused)
{
    (void)unused;
    pthread_mutex_lock(&self->lock);
    size_t used = self->lately.used + self->before.used;
    pthread_mutex_unlock(&self->lock);
    return PyLong_FromSize_t(used);
}

static PyObject *Table_bytes(Table *self, void *unused)
{
    (void)unused;
    pthread_mutex_lock(&self->lock);
    size_t size = size_of(&self->lately) + size_of(&self->before);
    pthread_mutex_unlock(&self->lock);
    return PyLong_FromSize_t(size);
}

static PyGetSetDef Table_fields[] = {{"series", (getter)Table_series, NULL, NULL, NULL},
                                     {"bytes", (getter)Table_bytes, NULL, NULL, NULL},
                                     {NULL, NULL, NULL, NULL, NULL}};

static PyTypeObject TableType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "permille.accelerator._usual.Table",
    .tp_basicsize = sizeof(Table),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = Table_new,
    .tp_dealloc = (destructor)Table_dealloc,
    .tp_getset = Table_fields,
};

/* ---- how the events of a code are split ---- */

typedef struct {
    const uint8_t *p;
    uint32_t n, chars;
    int is_escaped; /* it needs escapes in JSON, or had some */
} text;

typedef struct {
    PyObject_HEAD
    Table *table;
    PyObject *texts; /* owns what the texts below point to */
    text code, field;
    int has_field, field_is_key;
    int keys_n;
    text keys[KEYS_MAX];
    uint8_t *prefix; /* how each of its series begins in the table */
    size_t prefix_n;
} Layout;

enum { NONE_TAG, TEXT_TAG, WHOLE_TAG, DECIMAL_TAG, BOOLEAN_TAG };

static int same(const text *a, const text *b) { return a->n == b->n && !memcmp(a->p, b->p, a->n); }

static int text_of(PyObject *texts, PyObject *from, text *into)
{
    Py_ssize_t n;
    const char *p = PyUnicode_AsUTF8AndSize(from, &n);
    if (!p || PyList_Append(texts, from))
        return 0;
    into->p = (const uint8_t *)p;
    into->n = (uint32_t)n;
    return 1;
}

static int fill_layout(Layout *self, const uint8_t *organization, PyObject *code, int64_t version, PyObject *field,
                       PyObject *keys)
{
    Py_ssize_t keys_n = PyTuple_GET_SIZE(keys);
    if (keys_n > KEYS_MAX) {
        PyErr_SetString(PyExc_ValueError, "too many keys");
        return 0;
    }
    self->texts = PyList_New(0);
    if (!self->texts || !text_of(self->texts, code, &self->code))
        return 0;
    self->has_field = field != Py_None;
    if (self->has_field && !text_of(self->texts, field, &self->field))
        return 0;
    self->keys_n = (int)keys_n;
    for (int i = 0; i < self->keys_n; i++) {
        if (!text_of(self->texts, PyTuple_GET_ITEM(keys, i), &self->keys[i]))
            return 0;
        self->field_is_key |= self->has_field && same(&self->keys[i], &self->field);
    }
    self->prefix_n = 16 + 8 + 4 + self->code.n;
    self->prefix = malloc(self->prefix_n);
    if (!self->prefix) {
        PyErr_NoMemory();
        return 0;
    }
    memcpy(self->prefix, organization, 16);
    write_big_endian(self->prefix + 16, (uint64_t)version, 8);
    write_big_endian(self->prefix + 24, self->code.n, 4);
    memcpy(self->prefix + 28, self->code.p, self->code.n);
    return 1;
}

static PyObject *Layout_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);

static void Layout_dealloc(Layout *self)
{
    free(self->prefix);
    Py_XDECREF(self->texts);
    Py_XDECREF((PyObject *)self->table);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* A series' key, as it is written into the table. */
typedef struct {
    uint8_t p[SERIES_KEY_MAX];
    size_t n;
} series_key;

static int add_to_key(series_key *key, int tag, const uint8_t *p, size_t n)
{
    if (n > SERIES_KEY_MAX || key->n + n + 5 > SERIES_KEY_MAX)
        return 0;
    key->p[key->n] = (uint8_t)tag;
    write_big_endian(key->p + key->n + 1, n, 4);
    if (n)
        memcpy(key->p + key->n + 5, p, n);
    key->n += n + 5;
    return 1;
}

static int begin_key(series_key *key, const Layout *layout)
{
    if (layout->prefix_n > SERIES_KEY_MAX / 2)
        return 0;
    memcpy(key->p, layout->prefix, layout->prefix_n);
    key->n = layout->prefix_n;
    return 1;
}

static int add_object_to_key(series_key *key, int tag, PyObject *value)
{
    Py_ssize_t n;
    const char *p = PyUnicode_Check(value) ? PyUnicode_AsUTF8AndSize(value, &n) : NULL;
    if (!p) {
        PyErr_Clear(); /* a lone surrogate has no UTF-8 */
        return 0;
    }
    return add_to_key(key, tag, (const uint8_t *)p, (size_t)n);
}

static int tag_of(PyObject *kind)
{
    if (!PyUnicode_Check(kind))
        return -1;
    if (PyUnicode_CompareWithASCIIString(kind, "int") == 0)
        return WHOLE_TAG;
    if (PyUnicode_CompareWithASCIIString(kind, "Decimal") == 0)
        return DECIMAL_TAG;
    return PyUnicode_CompareWithASCIIString(kind, "bool") == 0 ? BOOLEAN_TAG : -1;
}

/* (external subscription id or None, Encoded.series) as a key; 0 where it has none. */
static int key_of_place(series_key *key, const Layout *layout, PyObject *place)
{
    if (!PyTuple_Check(place) || PyTuple_GET_SIZE(place) != 2 || !begin_key(key, layout))
        return 0;
    PyObject *subscription = PyTuple_GET_ITEM(place, 0), *values = PyTuple_GET_ITEM(place, 1);
    if (!PyTuple_Check(values) || PyTuple_GET_SIZE(values) != layout->keys_n + 1)
        return 0;
    if (subscription == Py_None ? !add_to_key(key, NONE_TAG, NULL, 0) : !add_object_to_key(key, TEXT_TAG, subscription))
        return 0;
    for (int i = 0; i < layout->keys_n; i++) {
        PyObject *value = PyTuple_GET_ITEM(values, i);
        int is_added;
        if (value == Py_None)
            is_added = add_to_key(key, NONE_TAG, NULL, 0);
        else if (PyTuple_Check(value) && PyTuple_GET_SIZE(value) == 2 && tag_of(PyTuple_GET_ITEM(value, 0)) > 0)
            is_added = add_object_to_key(key, tag_of(PyTuple_GET_ITEM(value, 0)), PyTuple_GET_ITEM(value, 1));
        else
            is_added = add_object_to_key(key, TEXT_TAG, value);
        if (!is_added)
            return 0;
    }
    return add_to_key(key, PyTuple_GET_ITEM(values, layout->keys_n) == Py_True, NULL, 0);
}

static PyObject *Layout_get(Layout *self, PyObject *place)
{
    series_key key;
    int64_t id;
    uint8_t subscription[8];
    if (!key_of_place(&key, self, place) || !recall(self->table, key.p, key.n, &id, subscription))
        Py_RETURN_NONE;
    return PyLong_FromLongLong(id);
}

static PyObject *Layout_keep(Layout *self, PyObject *args)
{
    PyObject *place;
    long long id;
    series_key key;
    if (!PyArg_ParseTuple(args, "OL", &place, &id))
        return NULL;
    if (key_of_place(&key, self, place)) {
        uint8_t subscription[8] = {0};
        PyObject *named = PyTuple_GET_ITEM(place, 0);
        if (named != Py_None) {
            Py_ssize_t n;
            const char *p = PyUnicode_AsUTF8AndSize(named, &n);
            blake2b(subscription, 8, (const uint8_t *)p, (size_t)n);
        }
        pthread_mutex_lock(&self->table->lock);
        keep(self->table, hash_of(self->table->seed, key.p, key.n), key.p, key.n, id, subscription);
        pthread_mutex_unlock(&self->table->lock);
    }
    Py_RETURN_NONE;
}

static PyMethodDef Layout_methods[] = {{"get", (PyCFunction)Layout_get, METH_O, NULL},
                                       {"keep", (PyCFunction)Layout_keep, METH_VARARGS, NULL},
                                       {NULL, NULL, 0, NULL}};

static PyTypeObject LayoutType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "permille.accelerator._usual.Layout",
    .tp_basicsize = sizeof(Layout),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = Layout_new,
    .tp_dealloc = (destructor)Layout_dealloc,
    .tp_methods = Layout_methods,
};

static PyObject *Layout_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"table", "organization", "code", "version", "field", "keys", NULL};
    PyObject *table, *code, *field, *keys;
    const uint8_t *organization;
    Py_ssize_t organization_n;
    long long version;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!y#ULOO!", names, &TableType, &table, &organization, &organization_n,
                                     &code, &version, &field, &PyTuple_Type, &keys))
        return NULL;
    if (organization_n != 16) {
        PyErr_SetString(PyExc_ValueError, "an organization has 16 bytes");
        return NULL;
    }
    Layout *self = (Layout *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->table = (Table *)Py_NewRef(table);
    if (!fill_layout(self, organization, code, version, field, keys)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* ---- reading JSON; what returns 0 wants a closer look ---- */

typedef struct {
    const uint8_t *p, *end;
    buffer scratch;   /* texts without their escapes; as long as the body, so that it never moves */
    int is_compact;   /* nothing since it was set had blanks or escapes */
    int names;        /* of properties of an event */
} reader;

typedef enum { NULL_VALUE, TRUE_VALUE, FALSE_VALUE, WHOLE, FRACTION, TEXT, NESTED } kind;

typedef struct {
    kind kind;
    int is_compact;
    text raw;     /* as it was sent */
    text content; /* of a text */
} value;

typedef struct {
    text name, raw_name;
    value value;
    int is_kept_elsewhere; /* in its series, or as the value */
} entry;

static void skip_blanks(reader *r)
{
    const uint8_t *p = r->p;
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r'))
        r->p++;
    if (p != r->p)
        r->is_compact = 0;
}

/* The next byte that is no blank, which is taken if it is this one. */
static int take(reader *r, uint8_t byte)
{
    skip_blanks(r);
    if (r->p >= r->end || *r->p != byte)
        return 0;
    r->p++;
    return 1;
}

static inline int is_continuation(uint8_t byte) { return (byte & 0xC0) == 0x80; }

/* How many bytes the character has that begins here; 0 if it is none. */
static int character_length(const uint8_t *p, const uint8_t *end)
{
    uint8_t a = p[0];
    if (a < 0x80)
        return 1;
    if (end - p < 2 || !is_continuation(p[1]))
        return 0;
    if (a >= 0xC2 && a <= 0xDF)
        return 2;
    if (end - p < 3 || !is_continuation(p[2]))
        return 0;
    if (a == 0xE0)
        return p[1] >= 0xA0 ? 3 : 0;
    if (a == 0xED)
        return p[1] <= 0x9F ? 3 : 0;
    if (a >= 0xE1 && a <= 0xEF)
        return 3;
    if (end - p < 4 || !is_continuation(p[3]))
        return 0;
    if (a == 0xF0)
        return p[1] >= 0x90 ? 4 : 0;
    if (a == 0xF4)
        return p[1] <= 0x8F ? 4 : 0;
    return a >= 0xF1 && a <= 0xF3 ? 4 : 0;
}

static int hex_digits(const uint8_t *p, const uint8_t *end, uint32_t *number)
{
    if (end - p < 4)
        return 0;
    *number = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = p[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return 0;
        *number = *number << 4 | (uint32_t)digit;
    }
    return 1;
}

static void put_character(buffer *b, uint32_t c)
{
    if (c < 0x80) {
        put_byte(b, (uint8_t)c);
    } else if (c < 0x800) {
        put_byte(b, (uint8_t)(0xC0 | c >> 6));
        put_byte(b, (uint8_t)(0x80 | (c & 0x3F)));
    } else if (c < 0x10000) {
        put_byte(b, (uint8_t)(0xE0 | c >> 12));
        put_byte(b, (uint8_t)(0x80 | (c >> 6 & 0x3F)));
        put_byte(b, (uint8_t)(0x80 | (c & 0x3F)));
    } else {
        put_byte(b, (uint8_t)(0xF0 | c >> 18));
        put_byte(b, (uint8_t)(0x80 | (c >> 12 & 0x3F)));
        put_byte(b, (uint8_t)(0x80 | (c >> 6 & 0x3F)));
        put_byte(b, (uint8_t)(0x80 | (c & 0x3F)));
    }
}

/* After a backslash: what it stands for. No NUL, and no half of a pair. */
static int read_escape(reader *r)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (r->p >= r->end)
        return 0;
    uint8_t c = *r->p++;
    const char *at = c ? strchr(letters, c) : NULL;
    if (at) {
        put_byte(&r->scratch, (uint8_t)meant[at - letters]);
        return 1;
    }
    uint32_t number, second;
    if (c != 'u' || !hex_digits(r->p, r->end, &number))
        return 0;
    r->p += 4;
    if (number == 0 || (number >= 0xDC00 && number <= 0xDFFF))
        return 0;
    if (number >= 0xD800 && number <= 0xDBFF) {
        if (r->end - r->p < 6 || r->p[0] != '\\' || r->p[1] != 'u' || !hex_digits(r->p + 2, r->end, &second) ||
            second < 0xDC00 || second > 0xDFFF)
            return 0;
        r->p += 6;
        number = 0x10000 + ((number - 0xD800) << 10) + (second - 0xDC00);
    }
    put_character(&r->scratch, number);
    return 1;
}

/* The rest of a text that has escapes; it is as long as its JSON at most, so that the scratch has room. */
static int read_escaped_text(reader *r, text *t)
{
    size_t begins = r->scratch.n;
    put(&r->scratch, t->p, (size_t)(r->p - t->p));
    while (r->p < r->end && *r->p != '"') {
        uint8_t c = *r->p;
        if (c < 0x20)
            return 0;
        if (c == '\\') {
            r->p++;
            if (!read_escape(r))
                return 0;
        } else {
            int n = character_length(r->p, r->end);
            if (!n)
                return 0;
            put(&r->scratch, r->p, (size_t)n);
            r->p += n;
        }
        t->chars++;
    }
    if (r->p >= r->end)
        return 0;
    r->p++;
    t->p = r->scratch.p + begins;
    t->n = (uint32_t)(r->scratch.n - begins);
    t->is_escaped = 1;
    r->is_compact = 0;
    return 1;
}

static int has_scratch(reader *r) { return reserve(&r->scratch, (size_t)(r->end - r->p) * 2 + 64); }

static int read_text(reader *r, text *t)
{
    if (r->p >= r->end || *r->p != '"')
        return 0;
    t->p = ++r->p;
    t->chars = 0;
    t->is_escaped = 0;
    while (r->p < r->end && *r->p != '"') {
        uint8_t c = *r->p;
        if (c == '\\')
            return r->scratch.p ? read_escaped_text(r, t) : 0;
        if (c < 0x20)
            return 0;
        int n = c < 0x80 ? 1 : character_length(r->p, r->end);
        if (!n)
            return 0;
        r->p += n;
        t->chars++;
    }
    if (r->p >= r->end)
        return 0;
    t->n = (uint32_t)(r->p - t->p);
    r->p++;
    return 1;
}

static inline int is_digit(const reader *r) { return r->p < r->end && *r->p >= '0' && *r->p <= '9'; }

/* A number in plain notation that Python's int and Decimal give back as it was. */
static int read_number(reader *r, value *v)
{
    int is_negative = *r->p == '-', is_zero = 1;
    if (is_negative)
        r->p++;
    const uint8_t *whole = r->p;
    for (; is_digit(r); r->p++)
        is_zero &= *r->p == '0';
    ptrdiff_t whole_n = r->p - whole;
    if (whole_n == 0 || whole_n > DIGITS_MAX || (*whole == '0' && whole_n > 1))
        return 0;
    v->kind = WHOLE;
    if (r->p < r->end && *r->p == '.') {
        const uint8_t *fraction = ++r->p;
        for (; is_digit(r); r->p++)
            is_zero &= *r->p == '0';
        ptrdiff_t n = r->p - fraction;
        if (n == 0 || n > DIGITS_MAX)
            return 0;
        if (*whole == '0' && n > 6 && !memcmp(fraction, "000000", 6))
            return 0; /* Decimal would write it with an exponent */
        v->kind = FRACTION;
    }
    if (r->p < r->end && (*r->p == 'e' || *r->p == 'E'))
        return 0;
    return !(is_negative && is_zero);
}

static int take_word(reader *r, const char *word, size_t n)
{
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n))
        return 0;
    r->p += n;
    return 1;
}

static int read_nested(reader *r, int depth);

static int read_value(reader *r, value *v, int depth)
{
    skip_blanks(r);
    if (r->p >= r->end)
        return 0;
    int was_compact = r->is_compact, is_read;
    r->is_compact = 1;
    v->raw.p = r->p;
    switch (*r->p) {
    case '"':
        v->kind = TEXT;
        is_read = read_text(r, &v->content);
        break;
    case '{':
    case '[':
        v->kind = NESTED;
        is_read = read_nested(r, depth + 1);
        break;
    case 'n':
        v->kind = NULL_VALUE;
        is_read = take_word(r, "null", 4);
        break;
    case 't':
        v->kind = TRUE_VALUE;
        is_read = take_word(r, "true", 4);
        break;
    case 'f':
        v->kind = FALSE_VALUE;
        is_read = take_word(r, "false", 5);
        break;
    default:
        is_read = read_number(r, v);
    }
    v->raw.n = (uint32_t)(r->p - v->raw.p);
    v->is_compact = r->is_compact;
    r->is_compact &= was_compact;
    return is_read;
}

/* Goes on after a member: 1 another one, 0 the end, -1 neither. */
static int next(reader *r, uint8_t end)
{
    skip_blanks(r);
    if (r->p >= r->end)
        return -1;
    uint8_t c = *r->p++;
    return c == ',' ? 1 : c == end ? 0 : -1;
}

static int read_name(reader *r, text *name)
{
    skip_blanks(r);
    return read_text(r, name) && take(r, ':');
}

static int is_new_name(const text *names, int n)
{
    for (int i = 0; i < n; i++)
        if (same(&names[i], &names[n]))
            return 0;
    return 1;
}

static int read_nested(reader *r, int depth)
{
    text names[NESTED_NAMES_MAX];
    value ignored;
    int is_object = *r->p++ == '{', goes_on = 1;
    uint8_t end = is_object ? '}' : ']';
    if (depth > DEPTH_MAX)
        return 0;
    if (take(r, end))
        return 1;
    for (int n = 0; goes_on == 1; n++) {
        if (is_object) {
            if (n == NESTED_NAMES_MAX || ++r->names > NAMES_MAX || !read_name(r, &names[n]) ||
                names[n].chars > NAME_MAX_CHARS || !is_new_name(names, n))
                return 0;
        }
        if (!read_value(r, &ignored, depth))
            return 0;
        goes_on = next(r, end);
    }
    return goes_on == 0;
}

/* ---- an event ---- */

typedef struct {
    text transaction_id, code, subscription;
    int has_subscription, has_properties;
    int64_t at; /* microseconds since 1970 */
    text precise;
    int has_precise;
    text properties; /* as they were sent, if they are compact */
    int is_compact, entries_n;
    entry entries[ENTRIES_MAX];
} event;

static int is_space(uint32_t c)
{
    return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static int is_blank(const text *t)
{
    for (const uint8_t *p = t->p, *end = t->p + t->n; p < end;) {
        int n = character_length(p, end);
        uint32_t c = n == 1 ? p[0] : n == 2 ? (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F)
                     : n == 3 ? (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F) : 0x10000;
        if (!is_space(c))
            return 0;
        p += n;
    }
    return 1;
}

/* A text, or a whole number, which counts as its digits. */
static int as_text(const value *v, text *t)
{
    if (v->kind == TEXT)
        *t = v->content;
    else if (v->kind == WHOLE) {
        *t = v->raw;
        t->chars = v->raw.n;
        t->is_escaped = 0;
    } else
        return 0;
    return t->chars <= NAME_MAX_CHARS;
}

static int as_name(const value *v, text *t) { return as_text(v, t) && t->n > 0 && !is_blank(t); }

static int as_subscription(const value *v, event *e)
{
    if (v->kind == NULL_VALUE)
        return 1;
    if (!as_text(v, &e->subscription))
        return 0;
    e->has_subscription = e->subscription.n > 0;
    return 1;
}

static int digits(const uint8_t *p, int n, int *number)
{
    *number = 0;
    for (int i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return 0;
        *number = *number * 10 + (p[i] - '0');
    }
    return 1;
}

/* Digits of a fraction of a second, of which what is finer than a microsecond is cut off; how many, 0 if none. */
static int fraction(const uint8_t *p, const uint8_t *end, int64_t *micro)
{
    int n = 0;
    *micro = 0;
    for (; p + n < end && p[n] >= '0' && p[n] <= '9'; n++)
        if (n < 6)
            *micro = *micro * 10 + (p[n] - '0');
    for (int i = n; i < 6; i++)
        *micro *= 10;
    return n > 60 ? 0 : n;
}

static int as_seconds(const uint8_t *p, const uint8_t *end, int64_t *at)
{
    int64_t seconds = 0, micro = 0;
    const uint8_t *begins = p;
    for (; p < end && *p >= '0' && *p <= '9' && p - begins < 12; p++)
        seconds = seconds * 10 + (*p - '0');
    if (p == begins)
        return 0;
    if (p < end && *p == '.') {
        int n = fraction(p + 1, end, &micro);
        if (!n)
            return 0;
        p += 1 + n;
    }
    *at = seconds * MICRO + micro;
    return p == end && seconds < SECONDS_END;
}

static int64_t days_since_1970(int64_t y, int m, int d)
{
    y -= m <= 2;
    int64_t era = y / 400, of_era = y - era * 400, of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int days_of(int y, int m)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return m == 2 && y % 4 == 0 && (y % 100 != 0 || y % 400 == 0) ? 29 : days[m - 1];
}

static int as_offset(const uint8_t *p, const uint8_t *end, int *minutes)
{
    int hour, minute;
    *minutes = 0;
    if (p == end || (end - p == 1 && (*p == 'Z' || *p == 'z')))
        return 1;
    if (end - p != 6 || (*p != '+' && *p != '-') || p[3] != ':' || !digits(p + 1, 2, &hour) ||
        !digits(p + 4, 2, &minute) || hour > 23 || minute > 59)
        return 0;
    *minutes = (hour * 60 + minute) * (*p == '-' ? -1 : 1);
    return 1;
}

static int as_date_and_time(const uint8_t *p, const uint8_t *end, int64_t *at)
{
    int y, m, d, hour, minute, second, offset;
    int64_t micro = 0;
    if (end - p < 19 || p[4] != '-' || p[7] != '-' || (p[10] != 'T' && p[10] != ' ') || p[13] != ':' || p[16] != ':')
        return 0;
    if (!digits(p, 4, &y) || !digits(p + 5, 2, &m) || !digits(p + 8, 2, &d) || !digits(p + 11, 2, &hour) ||
        !digits(p + 14, 2, &minute) || !digits(p + 17, 2, &second))
        return 0;
    if (y < 1970 || m < 1 || m > 12 || d < 1 || d > days_of(y, m) || hour > 23 || minute > 59 || second > 59)
        return 0;
    p += 19;
    if (p < end && *p == '.') {
        int n = fraction(p + 1, end, &micro);
        if (!n)
            return 0;
        p += 1 + n;
    }
    if (!as_offset(p, end, &offset))
        return 0;
    int64_t seconds = days_since_1970(y, m, d) * 86400 + hour * 3600 + minute * 60 + second - offset * 60LL;
    *at = seconds * MICRO + micro;
    return seconds >= 0 && seconds < SECONDS_END;
}

static int as_instant(const value *v, int64_t *at)
{
    if (v->kind == NULL_VALUE)
        return 1;
    if (v->kind == WHOLE || v->kind == FRACTION)
        return as_seconds(v->raw.p, v->raw.p + v->raw.n, at);
    if (v->kind != TEXT)
        return 0;
    const uint8_t *p = v->content.p, *end = p + v->content.n;
    return as_seconds(p, end, at) || as_date_and_time(p, end, at);
}

/* Whether a text is a number that PostgreSQL's numeric gives back as it was; *is_number: whether it is one at all. */
static int is_canonical(const text *t, int *is_number)
{
    reader r = {.p = t->p, .end = t->p + t->n};
    int is_zero = 1, whole_n = 0, fraction_n = 0, is_negative = t->n > 0 && *t->p == '-';
    *is_number = 0;
    if (is_negative)
        r.p++;
    const uint8_t *whole = r.p;
    for (; is_digit(&r); r.p++, whole_n++)
        is_zero &= *r.p == '0';
    if (r.p < r.end && *r.p == '.') {
        r.p++;
        for (; is_digit(&r); r.p++, fraction_n++)
            is_zero &= *r.p == '0';
        if (!fraction_n)
            return 0;
    }
    if (!whole_n || r.p != r.end || whole_n > DIGITS_MAX || fraction_n > DIGITS_MAX)
        return 0;
    *is_number = 1;
    return !(*whole == '0' && whole_n > 1) && !(is_negative && is_zero);
}

static int as_precise(const value *v, event *e)
{
    int is_number;
    if (v->kind == NULL_VALUE)
        return 1;
    e->has_precise = 1;
    e->precise = v->kind == TEXT ? v->content : v->raw;
    return v->kind == WHOLE || v->kind == FRACTION || (v->kind == TEXT && is_canonical(&v->content, &is_number));
}

static int is_new_entry(const event *e)
{
    const text *name = &e->entries[e->entries_n].name;
    for (int i = 0; i < e->entries_n; i++)
        if (same(&e->entries[i].name, name))
            return 0;
    return 1;
}

static int read_properties(reader *r, event *e)
{
    skip_blanks(r);
    if (r->end - r->p >= 4 && !memcmp(r->p, "null", 4)) {
        r->p += 4;
        return 1;
    }
    int goes_on = 1;
    r->is_compact = 1;
    e->properties.p = r->p;
    if (!take(r, '{'))
        return 0;
    if (take(r, '}'))
        goes_on = 0;
    for (; goes_on == 1; e->entries_n++) {
        if (e->entries_n == ENTRIES_MAX || ++r->names > NAMES_MAX)
            return 0;
        entry *found = &e->entries[e->entries_n];
        found->is_kept_elsewhere = 0;
        skip_blanks(r);
        found->raw_name.p = r->p;
        if (!read_text(r, &found->name) || found->name.n == 0 || found->name.chars > NAME_MAX_CHARS || !is_new_entry(e))
            return 0;
        found->raw_name.n = (uint32_t)(r->p - found->raw_name.p);
        if (!take(r, ':') || !read_value(r, &found->value, 0))
            return 0;
        goes_on = next(r, '}');
    }
    e->properties.n = (uint32_t)(r->p - e->properties.p);
    e->is_compact = r->is_compact;
    e->has_properties = 1;
    return goes_on == 0 && e->properties.n <= PROPERTIES_BYTES_MAX;
}

static int is_named(const text *t, const char *name) { return t->n == strlen(name) && !memcmp(t->p, name, t->n); }

enum { TRANSACTION_ID = 1, CODE = 2, SUBSCRIPTION = 4, TIMESTAMP = 8, PRECISE = 16, PROPERTIES = 32 };

static int field_of(const text *name)
{
    switch (name->n) {
    case 4:
        return is_named(name, "code") ? CODE : 0;
    case 9:
        return is_named(name, "timestamp") ? TIMESTAMP : 0;
    case 10:
        return is_named(name, "properties") ? PROPERTIES : 0;
    case 14:
        return is_named(name, "transaction_id") ? TRANSACTION_ID : 0;
    case 24:
        return is_named(name, "external_subscription_id") ? SUBSCRIPTION : 0;
    case 26:
        return is_named(name, "precise_total_amount_cents") ? PRECISE : 0;
    default:
        return 0;
    }
}

static int read_field(reader *r, event *e, int field)
{
    value v;
    if (field == PROPERTIES)
        return read_properties(r, e);
    if (!read_value(r, &v, 0))
        return 0;
    switch (field) {
    case TRANSACTION_ID:
        return as_name(&v, &e->transaction_id);
    case CODE:
        return as_name(&v, &e->code);
    case SUBSCRIPTION:
        return as_subscription(&v, e);
    case TIMESTAMP:
        return as_instant(&v, &e->at);
    case PRECISE:
        return as_precise(&v, e);
    default:
        return 1; /* other fields are dropped */
    }
}

static int read_event(reader *r, event *e, int64_t created_at)
{
    int seen = 0, goes_on = 1;
    e->has_subscription = e->has_precise = e->has_properties = e->entries_n = 0;
    e->at = created_at;
    r->names = 0;
    if (!take(r, '{'))
        return 0;
    while (goes_on == 1) {
        text name;
        if (!read_name(r, &name))
            return 0;
        int field = field_of(&name);
        if (seen & field || !read_field(r, e, field))
            return 0;
        seen |= field;
        goes_on = next(r, '}');
    }
    return goes_on == 0 && (seen & (TRANSACTION_ID | CODE)) == (TRANSACTION_ID | CODE);
}

/* ---- what is made of it ---- */

typedef struct {
    buffer series_ids, ats, identities, amounts, transaction_ids, precise, extras, answer, document;
    int has_amounts, has_precise, has_extras;
} columns;

static int put_json_text(buffer *b, const text *t)
{
    static const char hex[] = "0123456789abcdef";
    if (!reserve(b, (t->is_escaped ? 6 * (size_t)t->n : t->n) + 2))
        return 0;
    put_byte(b, '"');
    if (!t->is_escaped)
        put(b, t->p, t->n);
    for (uint32_t i = 0; t->is_escaped && i < t->n; i++) {
        uint8_t c = t->p[i];
        const char *at = c ? strchr("\"\\\b\f\n\r\t", c) : NULL;
        if (at) {
            put_byte(b, '\\');
            put_byte(b, (uint8_t)"\"\\bfnrt"[at - strchr("\"\\\b\f\n\r\t", '"')]);
        } else if (c < 0x20) {
            PUT(b, "\\u00");
            put_byte(b, (uint8_t)hex[c >> 4]);
            put_byte(b, (uint8_t)hex[c & 15]);
        } else
            put_byte(b, c);
    }
    put_byte(b, '"');
    return 1;
}

/* JSON that was read, without blanks and with no more escapes than it needs. */
static int put_compact(buffer *b, const text *raw, int is_compact, buffer *scratch)
{
    if (!reserve(b, raw->n))
        return 0;
    if (is_compact) {
        put(b, raw->p, raw->n);
        return 1;
    }
    reader r = {.p = raw->p, .end = raw->p + raw->n, .scratch = *scratch};
    while (r.p < r.end) {
        if (*r.p == '"') {
            text t;
            r.scratch.n = scratch->n;
            if (!read_text(&r, &t) || !put_json_text(b, &t))
                return 0;
        } else if (*r.p == ' ' || *r.p == '\n' || *r.p == '\t' || *r.p == '\r') {
            r.p++;
        } else {
            if (!reserve(b, 1))
                return 0;
            put_byte(b, *r.p++);
        }
    }
    return 1;
}

/* An element of a literal of texts. */
static int put_array_text(buffer *b, const uint8_t *p, size_t n)
{
    if (!reserve(b, 2 * n + 3))
        return 0;
    if (b->n)
        put_byte(b, ',');
    put_byte(b, '"');
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '"' || p[i] == '\\')
            put_byte(b, '\\');
        put_byte(b, p[i]);
    }
    put_byte(b, '"');
    return 1;
}

/* An element of a literal that needs no quotes; NULL without a text. */
static int put_array_number(buffer *b, const text *t, int has_text)
{
    size_t n = has_text ? t->n : 4;
    if (!reserve(b, n + 1))
        return 0;
    if (b->n)
        put_byte(b, ',');
    put(b, has_text ? (const char *)t->p : "NULL", n);
    return 1;
}

static void put_two(uint8_t *p, int number)
{
    p[0] = (uint8_t)('0' + number / 10 % 10);
    p[1] = (uint8_t)('0' + number % 10);
}

/* YYYY-MM-DDTHH:MM:SS of an instant from 1970 on. */
static void write_date_and_time(uint8_t *p, int64_t seconds)
{
    int64_t days = seconds / 86400, rest = seconds % 86400, z = days + 719468, era = z / 146097, of_era = z - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
    int d = (int)(of_year - (153 * month + 2) / 5 + 1), m = (int)(month < 10 ? month + 3 : month - 9);
    int y = (int)(year + era * 400 + (m <= 2));
    put_two(p, y / 100);
    put_two(p + 2, y % 100);
    p[4] = p[7] = '-';
    put_two(p + 5, m);
    put_two(p + 8, d);
    p[10] = 'T';
    put_two(p + 11, (int)(rest / 3600));
    p[13] = p[16] = ':';
    put_two(p + 14, (int)(rest / 60 % 60));
    put_two(p + 17, (int)(rest % 60));
}

static void put_hex(buffer *b, const uint8_t *p, int n)
{
    static const char hex[] = "0123456789abcdef";
    for (int i = 0; i < n; i++) {
        put_byte(b, (uint8_t)hex[p[i] >> 4]);
        put_byte(b, (uint8_t)hex[p[i] & 15]);
    }
}

static void put_uuid(buffer *b, const uint8_t *p)
{
    put_hex(b, p, 4);
    for (int i = 4; i < 10; i += 2) {
        put_byte(b, '-');
        put_hex(b, p + i, 2);
    }
    put_byte(b, '-');
    put_hex(b, p + 10, 6);
}

/* Lago's form of a decimal: with a fraction, and without idle zeros. */
static int put_decimal(buffer *b, const text *t)
{
    const uint8_t *point = memchr(t->p, '.', t->n);
    uint32_t n = t->n;
    if (!reserve(b, n + 4))
        return 0;
    put_byte(b, '"');
    while (point && t->p[n - 1] == '0')
        n--;
    put(b, t->p, n);
    if (!point)
        PUT(b, ".0");
    else if (t->p[n - 1] == '.')
        put_byte(b, '0');
    put_byte(b, '"');
    return 1;
}

static int put_answer(columns *c, const event *e, const uint8_t *identity, const uint8_t *created, buffer *scratch)
{
    buffer *b = &c->answer;
    static const text none = {(const uint8_t *)"{}", 2, 2, 0};
    if (!reserve(b, 80))
        return 0;
    PUT(b, "{\"lago_id\":\"");
    put_uuid(b, identity);
    PUT(b, "\",\"transaction_id\":");
    if (!put_json_text(b, &e->transaction_id) || !reserve(b, 16))
        return 0;
    PUT(b, ",\"code\":");
    if (!put_json_text(b, &e->code) || !reserve(b, 100))
        return 0;
    PUT(b, ",\"timestamp\":\"");
    write_date_and_time(b->p + b->n, e->at / MICRO);
    b->n += 19;
    int milli = (int)(e->at % MICRO / 1000);
    put_byte(b, '.');
    put_byte(b, (uint8_t)('0' + milli / 100));
    put_two(b->p + b->n, milli % 100);
    b->n += 2;
    PUT(b, "Z\",\"precise_total_amount_cents\":");
    if (!e->has_precise)
        PUT(b, "null");
    else if (!put_decimal(b, &e->precise))
        return 0;
    if (!reserve(b, 16))
        return 0;
    PUT(b, ",\"properties\":");
    const text *properties = e->has_properties ? &e->properties : &none;
    if (!put_compact(b, properties, !e->has_properties || e->is_compact, scratch) || !reserve(b, 40))
        return 0;
    PUT(b, ",\"external_subscription_id\":");
    if (!e->has_subscription)
        PUT(b, "null");
    else if (!put_json_text(b, &e->subscription))
        return 0;
    if (!reserve(b, 110))
        return 0;
    PUT(b, ",\"created_at\":\"");
    put(b, created, 19);
    PUT(b, "Z\",\"lago_customer_id\":null,\"lago_subscription_id\":null}");
    return 1;
}

static entry *entry_of(event *e, const text *name)
{
    for (int i = 0; i < e->entries_n; i++)
        if (same(&e->entries[i].name, name))
            return &e->entries[i];
    return NULL;
}

static int add_dimension(series_key *key, entry *found)
{
    if (!found)
        return add_to_key(key, NONE_TAG, NULL, 0);
    const value *v = &found->value;
    found->is_kept_elsewhere = 1;
    switch (v->kind) {
    case TEXT:
        return add_to_key(key, TEXT_TAG, v->content.p, v->content.n);
    case WHOLE:
        return add_to_key(key, WHOLE_TAG, v->raw.p, v->raw.n);
    case FRACTION:
        return add_to_key(key, DECIMAL_TAG, v->raw.p, v->raw.n);
    case TRUE_VALUE:
        return add_to_key(key, BOOLEAN_TAG, (const uint8_t *)"True", 4);
    case FALSE_VALUE:
        return add_to_key(key, BOOLEAN_TAG, (const uint8_t *)"False", 5);
    default:
        found->is_kept_elsewhere = 0;
        return add_to_key(key, NONE_TAG, NULL, 0);
    }
}

/* The number that the metric takes, as it was sent, and whether that was as a text. */
static int take_amount(const Layout *layout, event *e, text *amount, int *is_text)
{
    *is_text = 0;
    entry *found = layout->has_field ? entry_of(e, &layout->field) : NULL;
    if (!found)
        return 0;
    const value *v = &found->value;
    int is_number = v->kind == WHOLE || v->kind == FRACTION, is_reproduced = is_number;
    *amount = v->raw;
    if (v->kind == TEXT) {
        *is_text = is_reproduced = is_canonical(&v->content, &is_number);
        *amount = v->content;
    }
    found->is_kept_elsewhere |= is_reproduced && !layout->field_is_key;
    return is_number;
}

static int put_extra(columns *c, const event *e, buffer *scratch)
{
    buffer *document = &c->document;
    document->n = 0;
    for (int i = 0; i < e->entries_n; i++) {
        const entry *found = &e->entries[i];
        if (found->is_kept_elsewhere)
            continue;
        if (!reserve(document, 2))
            return 0;
        put_byte(document, document->n ? ',' : '{');
        if (!put_json_text(document, &found->name) || !reserve(document, 1))
            return 0;
        put_byte(document, ':');
        if (!put_compact(document, &found->value.raw, found->value.is_compact, scratch))
            return 0;
    }
    if (!document->n)
        return put_array_number(&c->extras, NULL, 0);
    if (!reserve(document, 1))
        return 0;
    put_byte(document, '}');
    c->has_extras = 1;
    return put_array_text(&c->extras, document->p, document->n);
}

typedef struct {
    uint8_t organization[16];
    uint8_t chance[256];
    size_t chance_left;
} identifier;

/* One without a subscription is never a duplicate. */
static int make_identity(identifier *by, const event *e, const uint8_t *subscription, uint8_t *identity)
{
    uint8_t named[16 + 4 * NAME_MAX_CHARS];
    memcpy(named, by->organization, 16);
    memcpy(named + 16, e->transaction_id.p, e->transaction_id.n);
    blake2b(identity, 16, named, 16 + e->transaction_id.n);
    if (!e->has_subscription) {
        if (by->chance_left < 8) {
            if (getentropy(by->chance, sizeof by->chance))
                return 0;
            by->chance_left = sizeof by->chance;
        }
        by->chance_left -= 8;
        subscription = by->chance + by->chance_left;
    }
    for (int i = 0; i < 8; i++)
        identity[8 + i] ^= subscription[i];
    return 1;
}

static int add_event(columns *c, event *e, const Layout *layout, identifier *by, const uint8_t *created, buffer *scratch)
{
    series_key key;
    text amount;
    int64_t id;
    int is_text;
    uint8_t subscription[8], identity[16];
    if (!begin_key(&key, layout) ||
        !add_to_key(&key, e->has_subscription ? TEXT_TAG : NONE_TAG, e->subscription.p, e->has_subscription ? e->subscription.n : 0))
        return 0;
    for (int i = 0; i < layout->keys_n; i++)
        if (!add_dimension(&key, entry_of(e, &layout->keys[i])))
            return 0;
    int has_amount = take_amount(layout, e, &amount, &is_text);
    if (!add_to_key(&key, is_text, NULL, 0) || !recall(layout->table, key.p, key.n, &id, subscription) ||
        !make_identity(by, e, subscription, identity))
        return 0;
    if (!reserve(&c->series_ids, 12) || !reserve(&c->ats, 12) || !reserve(&c->identities, 20))
        return 0;
    put_big_endian(&c->series_ids, 8, 4);
    put_big_endian(&c->series_ids, (uint64_t)id, 8);
    put_big_endian(&c->ats, 8, 4);
    put_big_endian(&c->ats, (uint64_t)(e->at - SECONDS_TO_2000 * MICRO), 8);
    put_big_endian(&c->identities, 16, 4);
    put(&c->identities, identity, 16);
    c->has_amounts |= has_amount;
    c->has_precise |= e->has_precise;
    return put_array_number(&c->amounts, &amount, has_amount) &&
           put_array_text(&c->transaction_ids, e->transaction_id.p, e->transaction_id.n) &&
           put_array_number(&c->precise, &e->precise, e->has_precise) && put_extra(c, e, scratch) &&
           put_answer(c, e, identity, created, scratch);
}

/* ---- an organization, and its codes of one version of the metering ---- */

typedef struct {
    PyObject_HEAD
    pthread_mutex_t lock;
    uint8_t id[16];
    uint64_t seed;
    Layout **layouts;
    Py_ssize_t count, cap;
    Py_ssize_t *places; /* by the hash of the code: an index + 1; 0: free */
    size_t mask;
} Organization;

/* The index of the layout of a code, -1 where it has none. Once there is one it stays. */
static Py_ssize_t index_of(Organization *o, const text *code, Layout **layout)
{
    Py_ssize_t found = -1;
    pthread_mutex_lock(&o->lock);
    if (o->places)
        for (size_t i = hash_of(o->seed, code->p, code->n) & o->mask; o->places[i]; i = (i + 1) & o->mask)
            if (same(&o->layouts[o->places[i] - 1]->code, code)) {
                found = o->places[i] - 1;
                *layout = o->layouts[found];
                break;
            }
    pthread_mutex_unlock(&o->lock);
    return found;
}

static void place_layout(Organization *o, Py_ssize_t index)
{
    const text *code = &o->layouts[index]->code;
    size_t i = hash_of(o->seed, code->p, code->n) & o->mask;
    while (o->places[i])
        i = (i + 1) & o->mask;
    o->places[i] = index + 1;
}

static int make_room(Organization *o)
{
    if (o->count < o->cap)
        return 1;
    Py_ssize_t cap = o->cap ? o->cap * 2 : 8;
    Py_ssize_t *places = calloc((size_t)cap * 2, sizeof *places);
    Layout **layouts = realloc(o->layouts, (size_t)cap * sizeof *layouts);
    if (layouts)
        o->layouts = layouts;
    if (!places || !layouts) {
        free(places);
        return 0;
    }
    free(o->places);
    o->places = places;
    o->cap = cap;
    o->mask = (size_t)cap * 2 - 1;
    for (Py_ssize_t i = 0; i < o->count; i++)
        place_layout(o, i);
    return 1;
}

static PyObject *Organization_add(Organization *self, PyObject *given)
{
    if (!PyObject_TypeCheck(given, &LayoutType))
        return PyErr_Format(PyExc_TypeError, "not a Layout");
    Layout *layout = (Layout *)given, *there;
    if (index_of(self, &layout->code, &there) >= 0)
        Py_RETURN_NONE;
    pthread_mutex_lock(&self->lock);
    int has_room = make_room(self);
    if (has_room) {
        Py_INCREF(given);
        self->layouts[self->count] = layout;
        place_layout(self, self->count++);
    }
    pthread_mutex_unlock(&self->lock);
    if (!has_room)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *Organization_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"id", NULL};
    const uint8_t *id;
    Py_ssize_t n;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y#", names, &id, &n))
        return NULL;
    if (n != 16) {
        PyErr_SetString(PyExc_ValueError, "an organization has 16 bytes");
        return NULL;
    }
    Organization *self = (Organization *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    memcpy(self->id, id, 16);
    pthread_mutex_init(&self->lock, NULL);
    if (getentropy(&self->seed, sizeof self->seed)) {
        Py_DECREF(self);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return (PyObject *)self;
}

static void Organization_dealloc(Organization *self)
{
    for (Py_ssize_t i = 0; i < self->count; i++)
        Py_DECREF((PyObject *)self->layouts[i]);
    free(self->layouts);
    free(self->places);
    pthread_mutex_destroy(&self->lock);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* ---- a request ---- */

typedef struct {
    reader reader;
    event event;
    columns columns;
    identifier identifier;
    uint8_t created[19];
    int64_t created_at;
    uint8_t *seen; /* by the index of a layout */
    Py_ssize_t seen_n;
    Py_ssize_t count;
    Layout *layout; /* of the last event */
} pass;

static int read_one(pass *p, Organization *o)
{
    event *e = &p->event;
    p->reader.scratch.n = 0;
    if (!read_event(&p->reader, e, p->created_at))
        return 0;
    if (!p->layout || !same(&p->layout->code, &e->code)) {
        Py_ssize_t index = index_of(o, &e->code, &p->layout);
        if (index < 0 || index >= p->seen_n)
            return 0;
        p->seen[index] = 1;
    }
    p->count++;
    return add_event(&p->columns, e, p->layout, &p->identifier, p->created, &p->reader.scratch);
}

static int read_many(pass *p, Organization *o, Py_ssize_t most)
{
    buffer *answer = &p->columns.answer;
    int goes_on = 1;
    if (!take(&p->reader, '['))
        return 0;
    if (!reserve(answer, 16))
        return 0;
    PUT(answer, "{\"events\":[");
    while (goes_on == 1) {
        if (p->count == most || !reserve(answer, 1))
            return 0;
        if (p->count)
            put_byte(answer, ',');
        if (!read_one(p, o))
            return 0;
        goes_on = next(&p->reader, ']');
    }
    if (goes_on || !reserve(answer, 2))
        return 0;
    PUT(answer, "]}");
    return 1;
}

static int read_single(pass *p, Organization *o)
{
    buffer *answer = &p->columns.answer;
    if (!reserve(answer, 16))
        return 0;
    PUT(answer, "{\"event\":");
    if (!read_one(p, o) || !reserve(answer, 1))
        return 0;
    put_byte(answer, '}');
    return 1;
}

/* The object of a request: the events under their name, and other fields, which are dropped. */
static int read_request(pass *p, Organization *o, Py_ssize_t most, int is_batch)
{
    int has_events = 0, goes_on = 1;
    if (!has_scratch(&p->reader) || !take(&p->reader, '{'))
        return 0;
    while (goes_on == 1) {
        text name;
        value ignored;
        if (!read_name(&p->reader, &name))
            return 0;
        if (is_named(&name, is_batch ? "events" : "event")) {
            if (has_events || !(is_batch ? read_many(p, o, most) : read_single(p, o)))
                return 0;
            has_events = 1;
        } else if (!read_value(&p->reader, &ignored, 0))
            return 0;
        goes_on = next(&p->reader, '}');
    }
    skip_blanks(&p->reader);
    return goes_on == 0 && has_events && p->reader.p == p->reader.end;
}

static PyObject *bytes_of(const buffer *b, int has_any)
{
    if (!has_any)
        return Py_NewRef(Py_None);
    return PyBytes_FromStringAndSize((const char *)b->p, (Py_ssize_t)b->n);
}

static PyObject *codes_of(const pass *p, const Organization *o)
{
    PyObject *codes = PySet_New(NULL);
    for (Py_ssize_t i = 0; codes && i < p->seen_n; i++)
        if (p->seen[i] && PySet_Add(codes, PyList_GET_ITEM(o->layouts[i]->texts, 0)))
            Py_CLEAR(codes);
    return codes;
}

static PyObject *result_of(const pass *p, const Organization *o)
{
    const columns *c = &p->columns;
    PyObject *items[] = {PyLong_FromSsize_t(p->count),
                         codes_of(p, o),
                         bytes_of(&c->series_ids, 1),
                         bytes_of(&c->ats, 1),
                         bytes_of(&c->identities, 1),
                         bytes_of(&c->amounts, c->has_amounts),
                         bytes_of(&c->transaction_ids, 1),
                         bytes_of(&c->precise, c->has_precise),
                         bytes_of(&c->extras, c->has_extras),
                         bytes_of(&c->answer, 1)};
    Py_ssize_t n = sizeof items / sizeof *items;
    PyObject *result = PyTuple_New(n);
    for (Py_ssize_t i = 0; i < n; i++) {
        if (!items[i])
            Py_CLEAR(result);
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (result)
            PyTuple_SET_ITEM(result, i, items[i]);
        else
            Py_XDECREF(items[i]);
    }
    return result;
}

static void empty_buffers(pass *p, int is_freed)
{
    columns *c = &p->columns;
    buffer *buffers[] = {&c->series_ids, &c->ats, &c->identities, &c->amounts, &c->transaction_ids, &c->precise,
                         &c->extras, &c->answer, &c->document, &p->reader.scratch};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        if (is_freed)
            free(buffers[i]->p);
        buffers[i]->n = 0;
    }
}

static void free_pass(pass *p)
{
    empty_buffers(p, 1);
    free(p->seen);
    free(p);
}

/* One is kept for the next request, so that its memory need not come from the system each time. Whoever has the
   interpreter may take it. */
static pass *spare;

static pass *begin_pass(Organization *o, PyObject *body, int64_t created_at)
{
    pass *p = spare ? spare : calloc(1, sizeof *p);
    spare = NULL;
    if (!p)
        return NULL;
    empty_buffers(p, 0);
    columns *c = &p->columns;
    c->has_amounts = c->has_precise = c->has_extras = 0;
    p->reader.p = (const uint8_t *)PyBytes_AS_STRING(body);
    p->reader.end = p->reader.p + PyBytes_GET_SIZE(body);
    p->created_at = created_at;
    p->count = 0;
    p->layout = NULL;
    memcpy(p->identifier.organization, o->id, 16);
    write_date_and_time(p->created, created_at / MICRO);
    p->seen_n = o->count;
    p->seen = calloc((size_t)p->seen_n, 1);
    if (!p->seen) {
        free_pass(p);
        return NULL;
    }
    return p;
}

static void end_pass(pass *p)
{
    if (spare || p->columns.answer.cap + p->reader.scratch.cap > SPARE_MAX) {
        free_pass(p);
        return;
    }
    free(p->seen);
    p->seen = NULL;
    spare = p;
}

static PyObject *Organization_read(Organization *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"body", "created_at", "most", "is_batch", "frees_interpreter", NULL};
    PyObject *body;
    long long created_at;
    Py_ssize_t most;
    int is_batch, frees, is_read;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "SLnpp", names, &body, &created_at, &most, &is_batch, &frees))
        return NULL;
    if (PyBytes_GET_SIZE(body) > BODY_MAX || self->count == 0 || created_at < 0 || created_at / MICRO >= SECONDS_END)
        Py_RETURN_NONE;
    pass *p = begin_pass(self, body, created_at);
    if (!p)
        return PyErr_NoMemory();
    if (frees) {
        Py_BEGIN_ALLOW_THREADS
        is_read = read_request(p, self, most, is_batch);
        Py_END_ALLOW_THREADS
    } else
        is_read = read_request(p, self, most, is_batch);
    PyObject *result = is_read ? result_of(p, self) : Py_NewRef(Py_None);
    end_pass(p);
    return result;
}

static PyMethodDef Organization_methods[] = {
    {"add", (PyCFunction)Organization_add, METH_O, NULL},
    {"read", (PyCFunction)(void (*)(void))Organization_read, METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL}};

static PyTypeObject OrganizationType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "permille.accelerator._usual.Organization",
    .tp_basicsize = sizeof(Organization),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = Organization_new,
    .tp_dealloc = (destructor)Organization_dealloc,
    .tp_methods = Organization_methods,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_usual", NULL, -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__usual(void)
{
    if (PyType_Ready(&TableType) || PyType_Ready(&LayoutType) || PyType_Ready(&OrganizationType))
        return NULL;
    PyObject *made = PyModule_Create(&module);
    if (!made)
        return NULL;
    if (PyModule_AddStringConstant(made, "SOURCE", SOURCE_DIGEST) ||
        PyModule_AddObjectRef(made, "Table", (PyObject *)&TableType) ||
        PyModule_AddObjectRef(made, "Layout", (PyObject *)&LayoutType) ||
        PyModule_AddObjectRef(made, "Organization", (PyObject *)&OrganizationType)) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
