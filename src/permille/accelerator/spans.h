/* The spans of an OTLP request in protobuf: what ingest/decoders/trace_messages.py says of it, or NULL without an error where
   that is to decide. */

/* What is read, and how: as attributes, or for `alike`, which is NULL else. */
typedef struct {
    PyObject *spans;
    PyObject *attributes; /* of the resource */
    alike *alike;
} traces;

/* An attribute of a resource or a span. */
static int add_either(alike *alike, PyObject *attributes, message m)
{
    return alike ? add_alike(alike, m) : add_attribute(attributes, m, 0);
}

static int read_resource(message m, traces *t)
{
    while (m.p < m.end) {
        field f;
        if (!read_field_of(&m, &f))
            return 0;
        if (f.number == 1 ? f.wire != SIZED || !add_either(t->alike, t->attributes, f.bytes)
                          : f.number != 2 || f.wire != VARINT)
            return 0;
    }
    return 1;
}

static int read_scope(message m, PyObject **name)
{
    uint32_t seen = 0;
    while (m.p < m.end) {
        field f;
        if (!read_field_of(&m, &f) || f.number < 1 || f.number > 2 || !is_first(&f, SIZED, &seen))
            return 0;
        if (f.number == 1 ? !(*name = text_in(&f.bytes)) : !is_ascii(&f))
            return 0;
    }
    return 1;
}

static int read_status(message m, int *has_failed)
{
    uint32_t seen = 0;
    while (m.p < m.end) {
        field f;
        if (!read_field_of(&m, &f))
            return 0;
        if (f.number == 3 && is_first(&f, VARINT, &seen))
            *has_failed = (int32_t)f.number_value == 2;
        else if (f.number != 2 || !is_first(&f, SIZED, &seen) || !is_ascii(&f))
            return 0;
    }
    return 1;
}

typedef struct {
    message trace_id, id, parent_id, name;
    uint64_t ended_at;
    int has_failed;
    PyObject *attributes;
    alike *alike;
} span;

static int read_span(message m, span *s)
{
    uint32_t seen = 0;
    while (m.p < m.end) {
        field f;
        if (!read_field_of(&m, &f) || f.number > 16)
            return 0;
        if (f.number == 9) {
            if (f.wire != SIZED || !add_either(s->alike, s->attributes, f.bytes))
                return 0;
            continue;
        }
        static const int wires[] = {-1, SIZED, SIZED, SIZED, SIZED, SIZED, VARINT, EIGHT_BYTES, EIGHT_BYTES, SIZED,
                                    VARINT, -1, VARINT, -1, VARINT, SIZED, FOUR_BYTES};
        if (!is_first(&f, wires[f.number], &seen))
            return 0;
        switch (f.number) {
        case 1: s->trace_id = f.bytes; break;
        case 2: s->id = f.bytes; break;
        case 3: if (!is_ascii(&f)) return 0; break;
        case 4: s->parent_id = f.bytes; break;
        case 5: s->name = f.bytes; break;
        case 8: s->ended_at = f.number_value; break;
        case 15: if (!read_status(f.bytes, &s->has_failed)) return 0; break;
        }
    }
    return 1;
}

static PyObject *made_span(message m, PyObject *resource, PyObject *scope)
{
    span s = {.attributes = PyDict_Copy(resource)};
    if (!s.attributes || !read_span(m, &s)) {
        Py_XDECREF(s.attributes);
        return NULL;
    }
    PyObject *items[] = {hex_in(&s.trace_id), hex_in(&s.id), hex_in(&s.parent_id), text_in(&s.name),
                         scope ? Py_NewRef(scope) : PyUnicode_New(0, 0), PyLong_FromUnsignedLongLong(s.ended_at), PyBool_FromLong(s.has_failed), s.attributes};
    return packed(items, sizeof items / sizeof *items);
}

static PyObject *made_alike(message m, alike *resource, PyObject *scope)
{
    alike own = *resource;
    span s = {.alike = &own};
    PyObject *made = NULL;
    own.counts = PyList_GetSlice(resource->counts, 0, PY_SSIZE_T_MAX);
    own.texts = PyList_GetSlice(resource->texts, 0, PY_SSIZE_T_MAX);
    if (own.counts && own.texts && read_span(m, &s) && is_text(&s.name) && s.ended_at / NANO < SECONDS_END &&
        end_key(&own, scope, s.has_failed, !s.ended_at)) {
        PyObject *items[] = {PyBytes_FromStringAndSize((const char *)own.key.p, (Py_ssize_t)own.key.n), Py_NewRef(own.counts),
                             Py_NewRef(own.texts), own_id_of(&s.trace_id, &s.id), PyLong_FromUnsignedLongLong(s.ended_at)};
        made = packed(items, sizeof items / sizeof *items);
    }
    Py_XDECREF(own.counts);
    Py_XDECREF(own.texts);
    resource->key.p = own.key.p; /* what has grown is one buffer */
    resource->key.cap = own.key.cap;
    return made;
}

static int add_span(traces *t, message m, PyObject *scope)
{
    PyObject *found = t->alike ? made_alike(m, t->alike, scope) : made_span(m, t->attributes, scope);
    int is_added = found && !PyList_Append(t->spans, found);
    Py_XDECREF(found);
    return is_added;
}

/* A ScopeSpans or, without a scope, a ResourceSpans: what is said of all in it comes first, then what is in it. */
static int read_group(message m, traces *t, PyObject **scope)
{
    int seen = 0;
    while (m.p < m.end) {
        field f;
        if (!read_field_of(&m, &f) || f.number < 1 || f.number > 3 || f.wire != SIZED)
            return 0;
        if (f.number == 2) {
            PyObject *name = NULL;
            int is_read = scope ? add_span(t, f.bytes, *scope) : read_group(f.bytes, t, &name);
            Py_XDECREF(name);
            if (!is_read)
                return 0;
        } else if (f.number == 3) {
            if (!is_ascii(&f))
                return 0;
        } else if (seen || !(scope ? read_scope(f.bytes, scope) : read_resource(f.bytes, t)))
            return 0;
        seen |= f.number < 3; /* what is said of all comes once, and before them */
    }
    return 1;
}

static int read_traces(message m, traces *t)
{
    while (m.p < m.end) {
        field f;
        t->attributes = PyDict_New();
        int is_read = t->attributes && (!t->alike || begin_alike(t->alike)) && read_field_of(&m, &f) && f.number == 1 &&
                      f.wire == SIZED && read_group(f.bytes, t, NULL);
        Py_XDECREF(t->attributes);
        if (!is_read)
            return 0;
    }
    return 1;
}

static PyObject *spans_in(PyObject *content, alike *alike)
{
    const uint8_t *p = (const uint8_t *)PyBytes_AS_STRING(content);
    traces t = {.spans = PyList_New(0), .alike = alike};
    if (t.spans && !read_traces((message){p, p + PyBytes_GET_SIZE(content)}, &t))
        Py_CLEAR(t.spans);
    if (!t.spans && !PyErr_Occurred())
        Py_RETURN_NONE;
    return t.spans;
}

static PyObject *spans_of(PyObject *Py_UNUSED(module), PyObject *content)
{
    if (!PyBytes_Check(content))
        return PyErr_Format(PyExc_TypeError, "not bytes");
    return spans_in(content, NULL);
}

static PyObject *alike_spans(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *content;
    alike a = {0};
    if (!PyArg_ParseTuple(args, "SO!O!", &content, &PyDict_Type, &a.uses, &PyDict_Type, &a.prefixes))
        return NULL;
    PyObject *found = spans_in(content, &a);
    free_alike(&a);
    return found;
}
