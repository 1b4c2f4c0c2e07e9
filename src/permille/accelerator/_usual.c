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
#ifndef SPARE_MAX
#define SPARE_MAX (8 << 20)     /* bytes that are kept for the next request */
#endif
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

/* A tuple of references that are given away. */
static PyObject *packed(PyObject **items, Py_ssize_t n)
{
    PyObject *result = PyTuple_New(n);
    for (Py_ssize_t i = 0; i < n; i++) {
        if (result && items[i])
            PyTuple_SET_ITEM(result, i, items[i]);
        else {
            Py_XDECREF(items[i]);
            Py_CLEAR(result);
        }
    }
    return result;
}

#include "blake2b.h"
#include "buffer.h"
#include "series.h"
#include "layout.h"
#include "json.h"
#include "event.h"
#include "identity.h"
#include "columns.h"
#include "shape.h"
#include "protobuf.h"
#include "alike.h"
#include "spans.h"

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
    return packed(items, sizeof items / sizeof *items);
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

static pass *begin_pass(Organization *o, PyObject *body, int64_t created_at, int is_answered)
{
    pass *p = spare ? spare : calloc(1, sizeof *p);
    spare = NULL;
    if (!p)
        return NULL;
    empty_buffers(p, 0);
    columns *c = &p->columns;
    c->has_amounts = c->has_precise = c->has_extras = 0;
    c->is_answered = is_answered;
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
    if (spare || p->columns.answer.cap + p->reader.scratch.cap >= SPARE_MAX) {
        free_pass(p);
        return;
    }
    free(p->seen);
    p->seen = NULL;
    spare = p;
}

static PyObject *Organization_read(Organization *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"body", "created_at", "most", "is_batch", "is_answered", "frees_interpreter", NULL};
    PyObject *body;
    long long created_at;
    Py_ssize_t most;
    int is_batch, is_answered, frees, is_read;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "SLnppp", names, &body, &created_at, &most, &is_batch, &is_answered,
                                     &frees))
        return NULL;
    if (PyBytes_GET_SIZE(body) > BODY_MAX || self->count == 0 || created_at < 0 || created_at / MICRO >= SECONDS_END)
        Py_RETURN_NONE;
    pass *p = begin_pass(self, body, created_at, is_answered);
    if (!p)
        return PyErr_NoMemory();
    if (frees) {
        Py_BEGIN_ALLOW_THREADS
        is_read = read_request(p, self, most, is_batch);
        Py_END_ALLOW_THREADS
    } else
        is_read = read_request(p, self, most, is_batch);
    if (!is_answered)
        p->columns.answer.n = 0;
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

static PyMethodDef functions[] = {{"shape_of", shape_of, METH_VARARGS, NULL},
                                  {"spans_of", spans_of, METH_O, NULL},
                                  {"alike_spans", alike_spans, METH_VARARGS, NULL},
                                  {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_usual", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__usual(void)
{
    if (PyType_Ready(&TableType) || PyType_Ready(&LayoutType) || PyType_Ready(&OrganizationType) || !make_marks())
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
