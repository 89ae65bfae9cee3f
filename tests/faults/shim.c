/* Preloaded: counts the calls that change what is on the disk below a folder, and lets one of them fail.
   Everything else goes straight to libc. Armed by fault_arm from Python, in a forked child. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OFF, COUNT, KILL_BEFORE, KILL_AFTER, FAIL_ONCE, FAIL_FROM, SHORT, TRACE };

static char root[4096];
static int mode = OFF, error = 0, at = 0, calls = 0, torn = 0, trace = -1;
static unsigned char ours[65536]; /* file descriptors below the folder */

void fault_arm(const char *folder, int how, int number, int with, const char *log) {
    strncpy(root, folder, sizeof root - 1);
    mode = how, at = number, error = with, calls = 0, torn = 0;
    memset(ours, 0, sizeof ours);
    if (log[0]) {
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
        trace = real(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    }
}

int fault_calls(void) { return calls; }

static int below(const char *path) { return mode != OFF && !strncmp(path, root, strlen(root)); }
static int fails(void) { return (mode == FAIL_ONCE && calls == at) || (mode == FAIL_FROM && calls >= at); }

/* Before a call: whether it is to fail. */
static int before(void) {
    calls++;
    if (mode == KILL_BEFORE && calls == at) raise(SIGKILL);
    if (fails() || torn) return errno = torn ? ENOSPC : error, 1;
    return 0;
}

static void after(void) {
    if (mode == KILL_AFTER && calls == at) raise(SIGKILL);
}

static void put(const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (real(trace, data, size) != (ssize_t)size) abort();
}

/* A line of the trace: what, two texts, and the bytes that follow it. */
static void note(const char *what, const char *one, const char *other, const void *data, size_t size) {
    if (mode != TRACE) return;
    char line[8300];
    int saved = errno, length = snprintf(line, sizeof line, "%s\t%s\t%s\t%zu\n", what, one, other, size);
    put(line, length);
    if (size) put(data, size);
    errno = saved;
}

static void path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, 4095);
    path[size < 0 ? 0 : size] = 0;
}

static int opened(int fd, const char *path, int flags) {
    if (fd >= 0 && fd < 65536) ours[fd] = 1;
    if (fd >= 0 && flags & O_CREAT) note("open", path, flags & O_TRUNC ? "truncate" : "", "", 0);
    return fd;
}

#define OPEN(name)                                                                     \
    int name(const char *path, int flags, ...) {                                       \
        static int (*real)(const char *, int, ...);                                    \
        if (!real) real = dlsym(RTLD_NEXT, #name);                                     \
        va_list rest;                                                                  \
        va_start(rest, flags);                                                         \
        mode_t bits = va_arg(rest, mode_t);                                            \
        va_end(rest);                                                                  \
        if (!below(path)) return real(path, flags, bits);                              \
        if (!(flags & (O_WRONLY | O_RDWR))) return opened(real(path, flags, bits), path, 0); \
        if (before()) return -1;                                                       \
        int fd = opened(real(path, flags, bits), path, flags);                         \
        after();                                                                       \
        return fd;                                                                     \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (mode == OFF || fd < 0 || fd >= 65536 || !ours[fd]) return real(fd, data, size);
    if (before()) return -1;
    if (mode == SHORT && calls == at) torn = 1, size = size / 2;
    ssize_t done = real(fd, data, size);
    char path[4096];
    path_of(fd, path);
    note("write", path, "", data, done > 0 ? done : 0);
    after();
    return done;
}

#define ON_FILE(name)                                                             \
    int name(int fd) {                                                            \
        static int (*real)(int);                                                  \
        if (!real) real = dlsym(RTLD_NEXT, #name);                                \
        if (mode == OFF || fd < 0 || fd >= 65536 || !ours[fd]) return real(fd);   \
        if (before()) return -1;                                                  \
        int done = real(fd);                                                      \
        char path[4096];                                                          \
        path_of(fd, path);                                                        \
        note("fsync", path, "", "", 0);                                           \
        after();                                                                  \
        return done;                                                              \
    }
ON_FILE(fsync)
ON_FILE(fdatasync)

int close(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "close");
    if (fd >= 0 && fd < 65536) ours[fd] = 0;
    return real(fd);
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "rename");
    if (!below(to)) return real(from, to);
    if (before()) return -1;
    int done = real(from, to);
    note("rename", from, to, "", 0);
    after();
    return done;
}

#define ON_PATH(name, arguments, ...)                              \
    int name arguments {                                           \
        static int(*real) arguments;                               \
        if (!real) real = dlsym(RTLD_NEXT, #name);                 \
        if (!below(path)) return real(__VA_ARGS__);                \
        if (before()) return -1;                                   \
        int done = real(__VA_ARGS__);                              \
        if (!done) note(#name, path, "", "", 0);                   \
        after();                                                   \
        return done;                                               \
    }
ON_PATH(unlink, (const char *path), path)
ON_PATH(rmdir, (const char *path), path)
ON_PATH(mkdir, (const char *path, mode_t bits), path, bits)
