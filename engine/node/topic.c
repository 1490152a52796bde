#include "node/topic.h"

#include "base/log.h"
#include "base/mem.h"
#include "node/private.h"

#include <string.h>

#include "base/banned.h"

struct topic {
    json_t *value;             /* state: newest */
    char *text;                /* state: the same, serialised on the setter's thread */
    char *ring[TOPIC_BACKLOG]; /* stream: text of event s at [s % TOPIC_BACKLOG] */
    uint64_t seq;              /* of the newest; 0: none yet */
};

struct topics {
    uv_mutex_t lock, update; /* update: one topic_update at a time, so that no field is lost */
    struct topic t[TOPICS_MAX];
    bool state, stream; /* something changed since topics_dirty */
};

static const struct {
    const char *name;
    bool stream;
} names[] = {
    {"node", false},      {"chain", false},    {"train", false},  {"attribution", false}, {"rewards", false},
    {"validator", false}, {"datanets", false}, {"models", false}, {"jobs", false},        {"keys", false},
    {"log", true},        {"ask", true},       {"heads", true},
};
#define COUNT (sizeof names / sizeof *names)
_Static_assert(COUNT <= TOPICS_MAX, "TOPICS_MAX");

size_t topics_index(const char *name) {
    for (size_t i = 0; i < COUNT; i++)
        if (strcmp(names[i].name, name) == 0)
            return i;
    return TOPICS_MAX;
}

const char *topics_name(size_t i) {
    return i < COUNT ? names[i].name : NULL;
}

bool topic_known(const char *topic) {
    return topics_index(topic) < TOPICS_MAX;
}

bool topic_is_stream(const char *topic) {
    size_t i = topics_index(topic);
    return i < COUNT && names[i].stream;
}

enum loam_status topics_open(struct node *n, struct err *err) {
    n->topics = mem_zalloc(sizeof *n->topics);
    if (!n->topics)
        return err_set(err, LOAM_ENOMEM, "no memory for topics");
    uv_mutex_init(&n->topics->lock);
    uv_mutex_init(&n->topics->update);
    return LOAM_OK;
}

void topics_close(struct node *n) {
    if (!n->topics)
        return;
    for (size_t i = 0; i < COUNT; i++) {
        struct topic *t = &n->topics->t[i];
        json_decref(t->value);
        mem_free(t->text);
        for (size_t k = 0; k < TOPIC_BACKLOG; k++)
            mem_free(t->ring[k]);
    }
    uv_mutex_destroy(&n->topics->lock);
    uv_mutex_destroy(&n->topics->update);
    mem_free(n->topics);
    n->topics = NULL;
}

static char *dump(const char *topic, const json_t *v) {
    char *text = json_dumps(v, JSON_COMPACT);
    if (text && strlen(text) > TOPIC_VALUE_MAX) {
        mem_free(text);
        text = NULL;
        if (strcmp(topic, "log") != 0)
            log_warn("node", "topic %s: a value over %u bytes was dropped", topic, TOPIC_VALUE_MAX);
    }
    return text;
}

/* Takes value; publishes it unless it is what stands there already. */
static void put(struct node *n, size_t i, json_t *value, char *text) {
    struct topics *ts = n->topics;
    uv_mutex_lock(&ts->lock);
    struct topic *t = &ts->t[i];
    json_t *old = t->value;
    char *old_text = t->text;
    bool same = old_text && strcmp(old_text, text) == 0;
    if (same) {
        old = value;
        old_text = text;
    } else {
        t->value = value;
        t->text = text;
        t->seq++;
        ts->state = true;
    }
    json_decref(old);
    uv_mutex_unlock(&ts->lock);
    mem_free(old_text);
    if (!same)
        node_wake(n);
}

void topic_set(struct node *n, const char *topic, json_t *value) {
    size_t i = topics_index(topic);
    LOAM_ASSERT(i < COUNT && !names[i].stream);
    char *text = value ? dump(topic, value) : NULL;
    if (!text) {
        json_decref(value);
        return;
    }
    put(n, i, value, text);
}

void topic_update(struct node *n, const char *topic, json_t *fields) {
    uv_mutex_lock(&n->topics->update);
    json_t *v = topic_get(n, topic);
    if (!v)
        v = json_object();
    if (v && fields && json_object_update(v, fields) == 0)
        topic_set(n, topic, v);
    else
        json_decref(v);
    json_decref(fields); /* shares its values with v: under the lock as they are */
    uv_mutex_unlock(&n->topics->update);
}

void topic_emit(struct node *n, const char *topic, json_t *event) {
    size_t i = topics_index(topic);
    LOAM_ASSERT(i < COUNT && names[i].stream);
    char *text = event ? dump(topic, event) : NULL;
    json_decref(event);
    if (!text)
        return;
    struct topics *ts = n->topics;
    uv_mutex_lock(&ts->lock);
    struct topic *t = &ts->t[i];
    t->seq++;
    char **slot = &t->ring[t->seq % TOPIC_BACKLOG];
    char *old = *slot;
    *slot = text;
    ts->stream = true;
    uv_mutex_unlock(&ts->lock);
    mem_free(old);
    node_wake(n);
}

json_t *topic_get(struct node *n, const char *topic) {
    size_t i = topics_index(topic);
    LOAM_ASSERT(i < COUNT && !names[i].stream);
    uv_mutex_lock(&n->topics->lock);
    json_t *v = n->topics->t[i].value ? json_deep_copy(n->topics->t[i].value) : NULL;
    uv_mutex_unlock(&n->topics->lock);
    return v;
}

json_t *topic_recent(struct node *n, const char *topic, size_t most) {
    size_t i = topics_index(topic);
    LOAM_ASSERT(i < COUNT && names[i].stream);
    json_t *a = json_array();
    struct topic *t = &n->topics->t[i];
    uv_mutex_lock(&n->topics->lock);
    uint64_t count = t->seq < TOPIC_BACKLOG ? t->seq : TOPIC_BACKLOG;
    if (count > most)
        count = most;
    for (uint64_t s = t->seq - count + 1; a && s <= t->seq; s++)
        json_array_append_new(a, json_loads(t->ring[s % TOPIC_BACKLOG], 0, NULL));
    uv_mutex_unlock(&n->topics->lock);
    return a;
}

char *topics_next(struct node *n, size_t i, uint64_t *seq) {
    struct topics *ts = n->topics;
    char *out = NULL;
    uv_mutex_lock(&ts->lock);
    struct topic *t = &ts->t[i];
    if (*seq < t->seq) {
        if (!names[i].stream) {
            out = mem_strdup(t->text);
            *seq = t->seq;
        } else {
            uint64_t next = *seq + 1;
            if (t->seq - *seq > TOPIC_BACKLOG)
                next = t->seq - TOPIC_BACKLOG + 1;
            out = mem_strdup(t->ring[next % TOPIC_BACKLOG]);
            *seq = next;
        }
    }
    uv_mutex_unlock(&ts->lock);
    return out;
}

void topics_dirty(struct node *n, bool *state, bool *stream) {
    uv_mutex_lock(&n->topics->lock);
    *state = n->topics->state;
    *stream = n->topics->stream;
    n->topics->state = n->topics->stream = false;
    uv_mutex_unlock(&n->topics->lock);
}
