/* How the events of a code are split. A piece of _usual.c. */

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
