/* Preloaded into a child process: records, in one order, what it does to the files below
 * RECORD_DIR, and what it writes to the file RECORD_NOTES. A call and its record happen
 * under one lock, so that the order of the records is the order in which the calls took effect. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static const char *dir, *notes;
static size_t dir_length;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("RECORD_LOG");
    dir = getenv("RECORD_DIR");
    notes = getenv("RECORD_NOTES");
    if (path == NULL || dir == NULL || notes == NULL) return;
    dir_length = strlen(dir);
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

static void put(const void *bytes, size_t length) {
    const char *at = bytes;
    while (length > 0) {
        long wrote = syscall(SYS_write, log_fd, at, length);
        if (wrote <= 0) abort();
        at += wrote;
        length -= (size_t)wrote;
    }
}

static void record(char type, const char *path, uint64_t offset, const void *data, uint64_t length) {
    uint64_t path_length = strlen(path);
    put(&type, 1);
    put(&path_length, 8);
    put(&offset, 8);
    put(&length, 8);
    put(path, path_length);
    put(data, length);
}

/* The part of a path below the directory, or NULL when it is elsewhere. */
static const char *below(const char *path) {
    if (log_fd < 0 || strncmp(path, dir, dir_length) != 0 || path[dir_length] != '/') return NULL;
    return path + dir_length + 1;
}

static const char *path_of(int fd, char *place, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, place, size - 1);
    if (length < 0) return NULL;
    place[length] = 0;
    return place;
}

static ssize_t do_write(int fd, const void *data, size_t size, int64_t offset) {
    char place[4096];
    const char *path = log_fd < 0 ? NULL : path_of(fd, place, sizeof place);
    const char *name = path == NULL ? NULL : below(path);
    int is_note = path != NULL && strcmp(path, notes) == 0;
    int positioned = offset >= 0;
    if (name == NULL && !is_note)
        return positioned ? syscall(SYS_pwrite64, fd, data, size, offset) : syscall(SYS_write, fd, data, size);
    pthread_mutex_lock(&lock);
    if (!positioned) offset = (int64_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
    ssize_t wrote = positioned ? syscall(SYS_pwrite64, fd, data, size, offset) : syscall(SYS_write, fd, data, size);
    if (wrote > 0) record(is_note ? 'N' : 'W', is_note ? "" : name, (uint64_t)offset, data, (uint64_t)wrote);
    pthread_mutex_unlock(&lock);
    return wrote;
}

ssize_t write(int fd, const void *data, size_t size) { return do_write(fd, data, size, -1); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return do_write(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return do_write(fd, data, size, at); }

static int do_sync(int fd, long call) {
    char place[4096];
    const char *path = log_fd < 0 ? NULL : path_of(fd, place, sizeof place);
    const char *name = path == NULL ? NULL : below(path);
    if (name == NULL) return (int)syscall(call, fd);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(call, fd);
    if (result == 0) record(call == SYS_fsync ? 'F' : 'D', name, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return do_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync); }

static int do_truncate(int fd, off64_t size) {
    char place[4096];
    const char *path = log_fd < 0 ? NULL : path_of(fd, place, sizeof place);
    const char *name = path == NULL ? NULL : below(path);
    if (name == NULL) return (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_ftruncate, fd, size);
    if (result == 0) record('T', name, (uint64_t)size, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t size) { return do_truncate(fd, size); }
int ftruncate64(int fd, off64_t size) { return do_truncate(fd, size); }

static int do_open(const char *path, int flags, mode_t mode) {
    const char *name = (flags & (O_CREAT | O_TRUNC)) ? below(path) : NULL;
    if (name == NULL) return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    pthread_mutex_lock(&lock);
    int existed = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && !existed) record('C', name, 0, NULL, 0);
    if (fd >= 0 && existed && (flags & O_TRUNC)) record('T', name, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return fd;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return do_open(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return do_open(path, flags | O_LARGEFILE, mode);
}

int rename(const char *from, const char *to) {
    const char *name = below(from), *target = below(to);
    if (name == NULL || target == NULL) return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (result == 0) record('R', name, 0, target, strlen(target));
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path) {
    const char *name = below(path);
    if (name == NULL) return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (result == 0) record('U', name, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    const char *name = below(path);
    if (name == NULL) return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (result == 0) record('M', name, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
