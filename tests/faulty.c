/* Preloaded into a program by the tests of faults: memory or threads that fastmlp's kernels ask for are not given.
 *
 * Whose call it is follows from the address that it returns to: only those from binaries of fastmlp/kernels count. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);

enum { NOTHING, MEMORY, THREADS, MOST_RANGES = 64 };

static struct { uintptr_t first, last; } ours[MOST_RANGES];     /* code of the kernels */
static int ranges;
static int kind = NOTHING;
static long first_to_fail, last_to_fail, calls;

static int note_code(struct dl_phdr_info *binary, size_t size, void *unused) {
    (void)size, (void)unused;
    if (strstr(binary->dlpi_name, "/fastmlp/kernels/") == NULL) return 0;
    for (int i = 0; i < binary->dlpi_phnum && ranges < MOST_RANGES; i++) {
        const ElfW(Phdr) *part = binary->dlpi_phdr + i;
        if (part->p_type == PT_LOAD && part->p_flags & PF_X) {
            ours[ranges].first = binary->dlpi_addr + part->p_vaddr;
            ours[ranges].last = binary->dlpi_addr + part->p_vaddr + part->p_memsz;
            ranges++;
        }
    }
    return 0;
}

/* From now on calls number first to last, counted from 1, fail. */
void faulty_begin(int which, long first, long last) {
    kind = NOTHING;
    ranges = 0;
    dl_iterate_phdr(note_code, NULL);
    first_to_fail = first;
    last_to_fail = last;
    calls = 0;
    kind = which;
}

/* None any more; how many calls there were. */
long faulty_end(void) {
    kind = NOTHING;
    return calls;
}

static int fails(int which, const void *returns_to) {
    if (kind != which) return 0;
    for (int i = 0; i < ranges; i++) {
        if (ours[i].first <= (uintptr_t)returns_to && (uintptr_t)returns_to < ours[i].last) {
            long call = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
            return first_to_fail <= call && call <= last_to_fail;
        }
    }
    return 0;
}

void *malloc(size_t size) {
    if (!fails(MEMORY, __builtin_return_address(0))) return __libc_malloc(size);
    errno = ENOMEM;
    return NULL;
}

void *calloc(size_t count, size_t size) {
    if (!fails(MEMORY, __builtin_return_address(0))) return __libc_calloc(count, size);
    errno = ENOMEM;
    return NULL;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument) {
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (fails(THREADS, __builtin_return_address(0))) return EAGAIN;
    *(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
    return create(thread, attributes, function, argument);
}
