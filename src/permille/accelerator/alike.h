/* Spans taken apart into a key, which is the same for those that are read alike, and what differs in them: counts, texts, the
   id and the end. What an attribute is to its reader is said by core/llm/otlp/alike.py. NULL without an error: read the span. */

enum { A_NAME, A_COUNT, A_ID, A_FREE, A_OBJECT, A_PRESENT };

#define ALIKE_NAMES_MAX 64 /* attributes that are read */
#define ALIKE_KEY_MAX 4096 /* bytes */
#define SPAN_ID_MAX 32
#define NANO 1000000000

typedef struct {
    PyObject *uses, *prefixes; /* of names, and of all that begin so */
    PyObject *counts, *texts;
    buffer key;
    text names[ALIKE_NAMES_MAX];
    int names_n;
} alike;

static int has_key_room(alike *a, size_t more) { return a->key.n + more <= ALIKE_KEY_MAX && reserve(&a->key, more); }

static int add_byte(alike *a, char byte)
{
    if (!has_key_room(a, 1))
        return 0;
    put_byte(&a->key, (uint8_t)byte);
    return 1;
}

static int add_sized(alike *a, char mark, const uint8_t *p, size_t n)
{
    if (n > ALIKE_KEY_MAX || !has_key_room(a, n + 5))
        return 0;
    put_byte(&a->key, (uint8_t)mark);
    put_big_endian(&a->key, n, 4);
    put(&a->key, p, n);
    return 1;
}

static int add_object_to(PyObject *list, PyObject *object)
{
    int is_added = object && !PyList_Append(list, object);
    Py_XDECREF(object);
    return is_added;
}

/* Its sign is in the key, as in a shape. */
static int add_number(alike *a, uint64_t count)
{
    return count < SHAPE_COUNT_END && add_byte(a, count ? '+' : '0') &&
           add_object_to(a->counts, PyLong_FromUnsignedLongLong(count));
}

static int add_text(alike *a, const message *m)
{
    return add_object_to(a->texts, PyUnicode_FromStringAndSize((const char *)m->p, m->end - m->p));
}

static int is_text(const message *m)
{
    field f = {.bytes = *m};
    PyObject *text = is_ascii(&f) ? Py_NewRef(Py_None) : text_in(m);
    Py_XDECREF(text);
    return text != NULL;
}

/* Whether it is written in JSON, and kept as a property, as it is: no quotes, no control characters, not blank. */
static int is_free(const message *m)
{
    Py_ssize_t blanks = 0, n = m->end - m->p;
    for (const uint8_t *p = m->p; p < m->end; p++) {
        if (*p < 0x20 || *p > 0x7E || *p == '"' || *p == '\\')
            return 0;
        blanks += *p == ' ';
    }
    return blanks < n && n <= SHAPE_ID_MAX;
}

static int is_id(const message *m)
{
    Py_ssize_t n = m->end - m->p;
    return are_plain(m->p, n, SHAPE_ID_MAX) && !begins(m->p, n, "event:") && !begins(m->p, n, "span:");
}

static int add_json(alike *a, reader *r, int depth);

static int add_members(alike *a, reader *r, int depth)
{
    text names[NESTED_NAMES_MAX];
    int is_object = *r->p++ == '{', goes_on = 1;
    uint8_t end = is_object ? '}' : ']';
    if (depth > DEPTH_MAX || !add_byte(a, is_object ? '{' : '['))
        return 0;
    if (take(r, end))
        return add_byte(a, ']');
    for (int n = 0; goes_on == 1; n++) {
        if (is_object && (n == NESTED_NAMES_MAX || !read_name(r, &names[n]) || !is_new_name(names, n) ||
                          !add_sized(a, 'n', names[n].p, names[n].n)))
            return 0;
        if (!add_json(a, r, depth + 1))
            return 0;
        goes_on = next(r, end);
    }
    return goes_on == 0 && add_byte(a, ']');
}

static int add_whole(alike *a, reader *r)
{
    value v = {0};
    uint64_t count = 0;
    const uint8_t *p = r->p;
    if (!read_number(r, &v) || v.kind != WHOLE || r->p - p > 15)
        return 0;
    for (; p < r->p; p++) {
        if (*p == '-')
            return 0;
        count = count * 10 + (uint64_t)(*p - '0');
    }
    return add_number(a, count);
}

static int add_json(alike *a, reader *r, int depth)
{
    text t = {0};
    skip_blanks(r);
    if (r->p == r->end)
        return 0;
    switch (*r->p) {
    case '{':
    case '[':
        return add_members(a, r, depth);
    case '"':
        return read_text(r, &t) && are_plain(t.p, t.n, SHAPE_NAME_MAX) && add_sized(a, 's', t.p, t.n);
    case 'n':
        return take_word(r, "null", 4) && add_byte(a, 'z');
    case 't':
        return take_word(r, "true", 4) && add_byte(a, 't');
    case 'f':
        return take_word(r, "false", 5) && add_byte(a, 'f');
    default:
        return add_whole(a, r);
    }
}

/* An object of counts in JSON: its names and texts are in the key. */
static int add_object_text(alike *a, const message *m)
{
    reader r = {.p = m->p, .end = m->end};
    if (m->p == m->end || *m->p != '{' || !add_json(a, &r, 0))
        return 0;
    skip_blanks(&r);
    return r.p == r.end;
}

/* Whether protobuf's library takes a value of which nothing is read. */
static int is_any_value(message m)
{
    message rest = m;
    field f;
    if (m.p < m.end && read_field_of(&rest, &f) && rest.p == rest.end && f.number == 1 && f.wire == SIZED)
        return is_text(&f.bytes);
    PyObject *value = any_value(m, 0);
    Py_XDECREF(value);
    return value != NULL;
}

static int add_known(alike *a, long use, message m)
{
    if (use == A_PRESENT)
        return is_any_value(m);
    field f;
    if (m.p == m.end || !read_field_of(&m, &f) || m.p != m.end)
        return 0;
    if (use == A_COUNT)
        return f.number == 3 && f.wire == VARINT && add_number(a, f.number_value);
    if (use == A_NAME && f.number == 2 && f.wire == VARINT)
        return add_byte(a, f.number_value ? 't' : 'f');
    if (f.number != 1 || f.wire != SIZED)
        return 0;
    switch (use) {
    case A_ID:
        return is_id(&f.bytes) && add_text(a, &f.bytes);
    case A_FREE:
        return is_free(&f.bytes) && add_text(a, &f.bytes);
    case A_OBJECT:
        return add_object_text(a, &f.bytes);
    default:
        return f.bytes.end - f.bytes.p <= SHAPE_ID_MAX && is_ascii(&f) &&
               add_sized(a, 's', f.bytes.p, (size_t)(f.bytes.end - f.bytes.p));
    }
}

/* What an attribute is to its reader, NULL where it is nothing: borrowed. */
static PyObject *use_of(const alike *a, PyObject *name)
{
    PyObject *use = PyDict_GetItemWithError(a->uses, name), *prefix, *found;
    Py_ssize_t at = 0;
    while (!use && PyDict_Next(a->prefixes, &at, &prefix, &found))
        if (PyUnicode_Tailmatch(name, prefix, 0, PY_SSIZE_T_MAX, -1) == 1)
            use = found;
    return use;
}

/* An attribute: what is read is in the key, once under each name. */
static int add_alike(alike *a, message m)
{
    message name = {0}, value = {0};
    if (!read_key_value(m, &name, &value))
        return 0;
    PyObject *key = text_in(&name), *use = key ? use_of(a, key) : NULL;
    Py_XDECREF(key);
    if (!key || PyErr_Occurred())
        return 0;
    if (!use)
        return is_any_value(value);
    long number = PyLong_AsLong(use);
    if (a->names_n == ALIKE_NAMES_MAX)
        return 0;
    a->names[a->names_n] = (text){.p = name.p, .n = (uint32_t)(name.end - name.p)};
    return is_new_name(a->names, a->names_n++) && add_sized(a, 'a', name.p, (size_t)(name.end - name.p)) &&
           add_known(a, number, value);
}

/* A resource begins, without what is known of the one before. */
static int begin_alike(alike *a)
{
    Py_XDECREF(a->counts);
    Py_XDECREF(a->texts);
    a->counts = PyList_New(0);
    a->texts = PyList_New(0);
    a->key.n = 0;
    a->names_n = 0;
    return a->counts && a->texts;
}

static int end_key(alike *a, PyObject *scope, int has_failed, int has_no_end)
{
    Py_ssize_t n = 0;
    const char *p = scope ? PyUnicode_AsUTF8AndSize(scope, &n) : "";
    return p && add_byte(a, has_failed ? 'F' : 'S') && add_byte(a, has_no_end ? 'N' : 'E') &&
           add_sized(a, 'p', (const uint8_t *)p, (size_t)n);
}

/* As core/llm/otlp/calls.py: of a span without an id of a response. */
static PyObject *own_id_of(const message *trace_id, const message *id)
{
    if (trace_id->end - trace_id->p > SPAN_ID_MAX || id->end - id->p > SPAN_ID_MAX)
        return NULL;
    PyObject *trace = hex_in(trace_id), *span = hex_in(id);
    PyObject *made = trace && span ? PyUnicode_FromFormat("span:%U:%U", trace, span) : NULL;
    Py_XDECREF(trace);
    Py_XDECREF(span);
    return made;
}

static void free_alike(alike *a)
{
    Py_XDECREF(a->counts);
    Py_XDECREF(a->texts);
    free(a->key.p);
}
