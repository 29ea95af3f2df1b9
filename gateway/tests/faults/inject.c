/*
 * Preloaded into the gateway: counts its system calls on files and sockets over all threads, and lets the n-th fail, or
 * be the last.
 *
 * A debugger's injection counts for each thread and each kind of call by itself, so "the 17th call" means several calls,
 * and the first of them hides the others. Here there is one counter for the process, so every call has its turn.
 *
 * INJECT_BELOW   only calls on files below this folder count; sockets always do
 * INJECT_CALLS   the kinds that count: any of r (read) w (write, change the length) s (sync) n (rename, remove, make a
 *                directory) c (create a file) o (open a file or a directory) a (accept, socket) q (ask for free room)
 * INJECT_FROM    the number of the first call that fails, from 1
 * INJECT_TIMES   how many fail from there on; 0: only count
 * INJECT_ERROR   the error number; 0: the process is killed instead, before the call
 * INJECT_TRACE   a file that gets a line for each call that counts: number, name, path, and "!" if it failed
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *below, *kinds;
static size_t below_length;
static long from, times;
static int error, trace = -1;
static atomic_long counter;

__attribute__((constructor)) static void begin(void) {
    const char *text;
    below = getenv("INJECT_BELOW");
    kinds = getenv("INJECT_CALLS");
    if (!below || !kinds) return;
    below_length = strlen(below);
    from = (text = getenv("INJECT_FROM")) ? atol(text) : 0;
    times = (text = getenv("INJECT_TIMES")) ? atol(text) : 0;
    error = (text = getenv("INJECT_ERROR")) ? atoi(text) : 0;
    if ((text = getenv("INJECT_TRACE")))
        trace = (int)syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

/* Whether this call, of this kind, is to fail; errno is set then. `path` may be null: a socket. */
static int fails(char kind, const char *name, const char *path) {
    if (!kinds || !strchr(kinds, kind)) return 0;
    if (path && strncmp(path, below, below_length) != 0) return 0;
    long number = atomic_fetch_add(&counter, 1) + 1;
    int hit = number >= from && number < from + times;
    if (trace >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%ld %s %s%s\n", number, name, path ? path : "socket", hit ? " !" : "");
        syscall(SYS_write, trace, line, (size_t)length);
    }
    if (!hit) return 0;
    if (!error)
        for (;;) syscall(SYS_kill, getpid(), SIGKILL);
    errno = error;
    return 1;
}

static int fd_fails(char kind, const char *name, int fd) {
    char link[32], path[PATH_MAX];
    if (!kinds || !strchr(kinds, kind)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length <= 0 || path[0] != '/') return 0;
    path[length] = 0;
    return fails(kind, name, path);
}

static int open_fails(const char *path, int flags) {
    return fails(flags & O_CREAT ? 'c' : 'o', flags & O_CREAT ? "create" : "open", path);
}

#define MODE(flags) \
    va_list list; \
    va_start(list, flags); \
    mode_t mode = (flags) & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; \
    va_end(list)

int openat(int at, const char *path, int flags, ...) {
    MODE(flags);
    return open_fails(path, flags) ? -1 : (int)syscall(SYS_openat, at, path, flags, mode);
}
int openat64(int at, const char *path, int flags, ...) {
    MODE(flags);
    return open_fails(path, flags) ? -1 : (int)syscall(SYS_openat, at, path, flags, mode);
}
int open(const char *path, int flags, ...) {
    MODE(flags);
    return open_fails(path, flags) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags);
    return open_fails(path, flags) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int mkdir(const char *path, mode_t mode) {
    return fails('n', "mkdir", path) ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}
int rename(const char *old, const char *new) {
    return fails('n', "rename", new) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, new, 0);
}
int renameat(int from_fd, const char *old, int to_fd, const char *new) {
    return fails('n', "rename", new) ? -1 : (int)syscall(SYS_renameat2, from_fd, old, to_fd, new, 0);
}
int link(const char *old, const char *new) {
    return fails('n', "link", new) ? -1 : (int)syscall(SYS_linkat, AT_FDCWD, old, AT_FDCWD, new, 0);
}
int linkat(int from_fd, const char *old, int to_fd, const char *new, int flags) {
    return fails('n', "link", new) ? -1 : (int)syscall(SYS_linkat, from_fd, old, to_fd, new, flags);
}
int unlink(const char *path) {
    return fails('n', "unlink", path) ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
int unlinkat(int at, const char *path, int flags) {
    return fails('n', "unlink", path) ? -1 : (int)syscall(SYS_unlinkat, at, path, flags);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    return fd_fails('w', "pwrite", fd) ? -1 : (ssize_t)syscall(SYS_pwrite64, fd, data, length, offset);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }
ssize_t write(int fd, const void *data, size_t length) {
    return fd_fails('w', "write", fd) ? -1 : (ssize_t)syscall(SYS_write, fd, data, length);
}
int ftruncate64(int fd, off64_t length) {
    return fd_fails('w', "ftruncate", fd) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }
int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    return fd_fails('w', "fallocate", fd) ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, length);
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }

ssize_t pread64(int fd, void *data, size_t length, off64_t offset) {
    return fd_fails('r', "pread", fd) ? -1 : (ssize_t)syscall(SYS_pread64, fd, data, length, offset);
}
ssize_t pread(int fd, void *data, size_t length, off_t offset) { return pread64(fd, data, length, offset); }
ssize_t read(int fd, void *data, size_t length) {
    return fd_fails('r', "read", fd) ? -1 : (ssize_t)syscall(SYS_read, fd, data, length);
}

int fsync(int fd) { return fd_fails('s', "fsync", fd) ? -1 : (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return fd_fails('s', "fdatasync", fd) ? -1 : (int)syscall(SYS_fdatasync, fd); }
int syncfs(int fd) { return fd_fails('s', "syncfs", fd) ? -1 : (int)syscall(SYS_syncfs, fd); }

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    return fails('a', "accept", 0) ? -1 : (int)syscall(SYS_accept4, fd, address, length, flags);
}
int socket(int domain, int type, int protocol) {
    return fails('a', "socket", 0) ? -1 : (int)syscall(SYS_socket, domain, type, protocol);
}

/* Two that are no plain system calls: the library's own is called. */
DIR *opendir(const char *path) {
    DIR *(*real)(const char *) = (DIR *(*)(const char *))dlsym(RTLD_NEXT, "opendir");
    return fails('o', "opendir", path) ? 0 : real(path);
}
int statvfs64(const char *path, struct statvfs64 *room) {
    int (*real)(const char *, struct statvfs64 *) = (int (*)(const char *, struct statvfs64 *))dlsym(RTLD_NEXT, "statvfs64");
    return fails('q', "statvfs", path) ? -1 : real(path, room);
}
int statvfs(const char *path, struct statvfs *room) {
    int (*real)(const char *, struct statvfs *) = (int (*)(const char *, struct statvfs *))dlsym(RTLD_NEXT, "statvfs");
    return fails('q', "statvfs", path) ? -1 : real(path, room);
}
