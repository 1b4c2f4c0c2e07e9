/* The series that are known, in two generations. A piece of _usual.c. */

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
