#include "lm/nfc.h"
#include "base/mem.h"
#include "base/text.h"

#include <string.h>

#include "base/banned.h"

struct range {
    uint32_t first, count, class;
};
struct pair {
    uint32_t from, a, b; /* decomposition: from -> a b (b 0: a alone) */
};
struct join {
    uint32_t a, b, to;
};

#define DECOMP(c, a, b)
#define COMP(a, b, c)
#define CCC(c, n, k) {c, n, k},
static const struct range classes[] = {
#include "lm/nfc.def"
};
#undef CCC
#undef DECOMP
#define CCC(c, n, k)
#define DECOMP(c, a, b) {c, a, b},
static const struct pair decompositions[] = {
#include "lm/nfc.def"
};
#undef DECOMP
#undef COMP
#define DECOMP(c, a, b)
#define COMP(a, b, c) {a, b, c},
static const struct join compositions[] = {
#include "lm/nfc.def"
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Hangul syllables are computed: The Unicode Standard, section 3.12. */
enum { S_BASE = 0xac00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11a7, L_COUNT = 19, V_COUNT = 21, T_COUNT = 28, S_COUNT = L_COUNT * V_COUNT * T_COUNT };

static uint32_t class_of(uint32_t c) {
    size_t lo = 0, hi = COUNT(classes);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c < classes[mid].first)
            hi = mid;
        else if (c >= classes[mid].first + classes[mid].count)
            lo = mid + 1;
        else
            return classes[mid].class;
    }
    return 0;
}

static const struct pair *decomposition(uint32_t c) {
    size_t lo = 0, hi = COUNT(decompositions);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (decompositions[mid].from == c)
            return &decompositions[mid];
        if (decompositions[mid].from < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static uint32_t composition(uint32_t a, uint32_t b) {
    if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT)
        return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
    if (a - S_BASE < S_COUNT && (a - S_BASE) % T_COUNT == 0 && b > T_BASE && b - T_BASE < T_COUNT)
        return a + (b - T_BASE);
    size_t lo = 0, hi = COUNT(compositions);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const struct join *j = &compositions[mid];
        if (j->a == a && j->b == b)
            return j->to;
        if (j->a < a || (j->a == a && j->b < b))
            lo = mid + 1;
        else
            hi = mid;
    }
    return 0;
}

bool nfc_quick(const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = utf8_decode(&cp, (const uint8_t *)s + i, n - i);
        i += len;
        bool plain = cp < 0x300 || (cp >= 0x4e00 && cp < 0xa000) || (cp >= 0x3041 && cp < 0x3099 && cp != 0x3094) || (cp >= 0x410 && cp < 0x450) ||
                     (cp >= 0x2010 && cp < 0x2030);
        if (!plain)
            return false;
    }
    return true;
}

struct work {
    uint32_t *cp;
    uint8_t *class;
    size_t n, cap;
};

static enum loam_status push(struct work *w, uint32_t c, struct err *err) {
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 256;
        void *a = mem_resize(w->cp, cap, sizeof *w->cp);
        if (a)
            w->cp = a;
        void *b = a ? mem_resize(w->class, cap, 1) : NULL;
        if (!b)
            return err_set(err, LOAM_ENOMEM, "no memory to normalise text");
        w->class = b;
        w->cap = cap;
    }
    w->cp[w->n] = c;
    w->class[w->n++] = (uint8_t)class_of(c);
    return LOAM_OK;
}

/* At most four levels deep in all of Unicode. */
static enum loam_status decompose(struct work *w, uint32_t c, struct err *err) {
    if (c - S_BASE < S_COUNT) {
        uint32_t i = c - S_BASE, t = i % T_COUNT;
        enum loam_status s = push(w, L_BASE + i / (V_COUNT * T_COUNT), err);
        if (!s)
            s = push(w, V_BASE + i % (V_COUNT * T_COUNT) / T_COUNT, err);
        return s || !t ? s : push(w, T_BASE + t, err);
    }
    const struct pair *p = decomposition(c);
    if (!p)
        return push(w, c, err);
    enum loam_status s = decompose(w, p->a, err);
    return s || !p->b ? s : decompose(w, p->b, err);
}

#define MOVES_MAX 64u /* a letter: no writing stacks so many marks; bounds the work that hostile text can make */

/* Canonical order: marks between starters by class, stable. */
static enum loam_status order(struct work *w, struct err *err) {
    uint64_t moves = 0;
    for (size_t i = 1; i < w->n; i++) {
        uint32_t c = w->cp[i];
        uint8_t k = w->class[i];
        size_t j = i;
        for (; k && j && w->class[j - 1] > k; j--) {
            w->cp[j] = w->cp[j - 1];
            w->class[j] = w->class[j - 1];
        }
        w->cp[j] = c;
        w->class[j] = k;
        moves += i - j;
        if (moves > 65536 + MOVES_MAX * (uint64_t)w->n)
            return err_set(err, LOAM_ELIMIT, "text with absurdly many combining marks");
    }
    return LOAM_OK;
}

static void compose(struct work *w) {
    size_t out = 0, starter = SIZE_MAX;
    int last = -1; /* class of the last mark kept since the starter */
    for (size_t i = 0; i < w->n; i++) {
        uint32_t c = w->cp[i], to;
        uint8_t k = w->class[i];
        if (starter != SIZE_MAX && last < (int)k && (to = composition(w->cp[starter], c)) != 0) {
            w->cp[starter] = to;
            continue;
        }
        if (!k) {
            starter = out;
            last = -1;
        } else {
            last = k;
        }
        w->cp[out] = c;
        w->class[out++] = k;
    }
    w->n = out;
}

enum loam_status nfc_text(struct buf *out, const char *s, size_t n, struct err *err) {
    struct work w = {0};
    enum loam_status st = LOAM_OK;
    for (size_t i = 0; i < n && !st;) {
        uint32_t cp;
        i += utf8_decode(&cp, (const uint8_t *)s + i, n - i);
        st = decompose(&w, cp, err);
    }
    if (!st)
        st = order(&w, err);
    if (!st)
        compose(&w);
    for (size_t i = 0; i < w.n && !st; i++) {
        uint8_t u[4];
        st = buf_add(out, u, utf8_encode(u, w.cp[i]), err);
    }
    mem_free(w.cp);
    mem_free(w.class);
    return st;
}
