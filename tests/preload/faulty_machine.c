/*
 * Stands between a program under test and the C library: another hand sets the wall clock, the disk is full from one write on, or
 * the program dies in the middle of one. Loaded by LD_PRELOAD; does what the file says that CAPSTAN_FAULTY_MACHINE names, which is
 * mapped, so that a test may say otherwise at any time. Only what Rust's library and SQLite call is met: steps that are system
 * calls of their own are not, and neither is the kernel's count of seconds since boot.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* As tests/src/faulty_machine.rs writes them. */
struct orders {
    int64_t clock_secs;  /* By how much the wall clock is wrong. */
    int64_t steps;       /* Writes to files, and syncs of them, so far. */
    int64_t first;       /* The number of the first that meets its fate, counted from 0; none if negative. */
    int64_t dies;        /* Whether the program dies in it, or the disk is full from it on. */
};

static struct orders none = {0, 0, -1, 0};
static struct orders *orders = &none;

__attribute__((constructor)) static void map_orders(void) {
    const char *path = getenv("CAPSTAN_FAULTY_MACHINE");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) {
        return;
    }
    void *mapped = mmap(NULL, sizeof *orders, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) {
        orders = mapped;
    }
}

/* Whether a step passes. */
static int passes(int file) {
    struct stat facts;
    int before = errno;
    int is_file = fstat(file, &facts) == 0 && S_ISREG(facts.st_mode);
    errno = before;
    if (!is_file) {
        return 1;
    }
    int64_t step = __atomic_fetch_add(&orders->steps, 1, __ATOMIC_SEQ_CST);
    int64_t first = __atomic_load_n(&orders->first, __ATOMIC_SEQ_CST);
    return first < 0 || step < first;
}

static int dies(void) {
    return __atomic_load_n(&orders->dies, __ATOMIC_SEQ_CST) != 0;
}

static _Noreturn void die(void) {
    for (;;) {
        kill(getpid(), SIGKILL);
    }
}

static ssize_t full(void) {
    errno = ENOSPC;
    return -1;
}

/* The half of a write is done by one that dies in it. */
ssize_t write(int file, const void *bytes, size_t count) {
    ssize_t (*next)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (passes(file)) {
        return next(file, bytes, count);
    }
    if (dies()) {
        next(file, bytes, count / 2);
        die();
    }
    return full();
}

static ssize_t write_at(const char *name, int file, const void *bytes, size_t count, off64_t offset) {
    ssize_t (*next)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, name);
    if (passes(file)) {
        return next(file, bytes, count, offset);
    }
    if (dies()) {
        next(file, bytes, count / 2, offset);
        die();
    }
    return full();
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
    return write_at("pwrite", file, bytes, count, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
    return write_at("pwrite64", file, bytes, count, offset);
}

static int sync_by(const char *name, int file) {
    int (*next)(int) = dlsym(RTLD_NEXT, name);
    if (passes(file)) {
        return next(file);
    }
    if (dies()) {
        die();
    }
    return (int)full();
}

int fsync(int file) {
    return sync_by("fsync", file);
}

int fdatasync(int file) {
    return sync_by("fdatasync", file);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int (*next)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int told = next(clock, at);
    if (told == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        at->tv_sec += __atomic_load_n(&orders->clock_secs, __ATOMIC_SEQ_CST);
    }
    return told;
}
