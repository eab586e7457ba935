/* Between a program and libc: counts, kills, fails, tears and records calls on files below one directory.

   Built and armed by faults/shim.py. Records are the input of faults/powercut.py: a header, two paths,
   and the bytes. The -shm file of SQLite is never recorded: it is shared memory that no power cut keeps. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, SIZE = 4, NAME = 8, OPEN = 16, READ = 32, LOCK = 64, FLOCK = 128 };
enum { NOTHING, KILL, FAIL, TEAR };
enum { R_WRITE = 1, R_SYNC, R_FAILED_SYNC, R_TRUNCATE, R_CREATE, R_LINK, R_RENAME, R_UNLINK, R_MARK, R_MKDIR };

static char directory[4096];
static size_t length;
static int action, mask, error_number, for_ever, record = -1, filesystem;
static long at, calls;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

void faults_arm(const char *below, int what, int which, long when, int error, int again)
{
    snprintf(directory, sizeof directory, "%s", below);
    length = strlen(directory);
    action = what; mask = which; at = when; error_number = error; for_ever = again; calls = 0;
}

void faults_filesystem(int magic) { filesystem = magic; }

long faults_calls(void) { return calls; }

static void put(const void *data, size_t size)
{
    while (size) {
        long done = syscall(SYS_write, record, data, size);
        if (done <= 0) _exit(99);
        data = (const char *)data + done; size -= done;
    }
}

static void note(int kind, uint64_t inode, uint64_t offset, const char *from, const char *to, const void *data, uint64_t size)
{
    if (record < 0) return;
    uint64_t head[6] = {kind, inode, offset, strlen(from), strlen(to), size};
    put(head, sizeof head); put(from, head[3]); put(to, head[4]);
    if (data) put(data, size);  /* only written bytes have a size */
}

void faults_record(int descriptor) { record = descriptor; }
void faults_mark(long number) { note(R_MARK, 0, number, "", "", 0, 0); }

static int below(const char *path)
{
    return length && !strncmp(path, directory, length) && (path[length] == '/' || !path[length]);
}

static int name_of(int descriptor, char *path)
{
    char link[64];
    if (!length) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    long size = readlink(link, path, 4095);
    if (size < 0) return 0;
    path[size] = 0;
    return below(path);
}

static int shared_memory(const char *path)
{
    size_t size = strlen(path);
    return size > 4 && !strcmp(path + size - 4, "-shm");
}

static uint64_t inode_of(const char *path)
{
    struct stat found;
    return lstat(path, &found) ? 0 : found.st_ino;
}

static uint64_t inode_behind(int descriptor)
{
    struct stat found;
    return fstat(descriptor, &found) ? 0 : found.st_ino;
}

/* 0: go on; -1: fail with errno; 1: tear this write, then die */
static int strike(int kind)
{
    if (!(mask & kind)) return 0;
    calls++;
    if (action == KILL && calls == at) kill(getpid(), SIGKILL);
    if (action == TEAR && calls == at) return 1;
    if (action == FAIL && (calls == at || (for_ever && calls > at))) { errno = error_number; return -1; }
    return 0;
}

static ssize_t written(int fd, const void *data, size_t size, off_t offset, const char *path, ssize_t done)
{
    if (done > 0 && !shared_memory(path)) note(R_WRITE, inode_behind(fd), offset, path, "", data, done);
    return done;
}

ssize_t write(int fd, const void *data, size_t size)
{
    char path[4096];
    if (!name_of(fd, path)) return syscall(SYS_write, fd, data, size);
    int struck = strike(WRITE);
    if (struck < 0) return -1;
    off_t offset = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    if (struck) { syscall(SYS_write, fd, data, size / 2); kill(getpid(), SIGKILL); }
    return written(fd, data, size, offset, path, syscall(SYS_write, fd, data, size));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    char path[4096];
    if (!name_of(fd, path)) return syscall(SYS_pwrite64, fd, data, size, offset);
    int struck = strike(WRITE);
    if (struck < 0) return -1;
    if (struck) { syscall(SYS_pwrite64, fd, data, size / 2, offset); kill(getpid(), SIGKILL); }
    return written(fd, data, size, offset, path, syscall(SYS_pwrite64, fd, data, size, offset));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

ssize_t pread64(int fd, void *data, size_t size, off64_t offset)
{
    char path[4096];
    if ((mask & READ) && name_of(fd, path) && strike(READ) < 0) return -1;
    return syscall(SYS_pread64, fd, data, size, offset);
}

ssize_t pread(int fd, void *data, size_t size, off_t offset) { return pread64(fd, data, size, offset); }

ssize_t read(int fd, void *data, size_t size)
{
    char path[4096];
    if ((mask & READ) && name_of(fd, path) && strike(READ) < 0) return -1;
    return syscall(SYS_read, fd, data, size);
}

static int synced(int fd, int number)
{
    char path[4096];
    if (!name_of(fd, path)) return syscall(number, fd);
    if (strike(SYNC)) { note(R_FAILED_SYNC, inode_behind(fd), 0, path, "", 0, 0); errno = error_number ? error_number : EIO; return -1; }
    int done = syscall(number, fd);
    if (!done) note(R_SYNC, inode_behind(fd), 0, path, "", 0, 0);
    return done;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

int ftruncate64(int fd, off64_t size)
{
    char path[4096];
    if (!name_of(fd, path)) return syscall(SYS_ftruncate, fd, size);
    if (strike(SIZE)) return -1;
    int done = syscall(SYS_ftruncate, fd, size);
    if (!done && !shared_memory(path)) note(R_TRUNCATE, inode_behind(fd), size, path, "", 0, 0);
    return done;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int rename(const char *from, const char *to)
{
    REAL(rename);
    if (!below(from) && !below(to)) return real(from, to);
    if (strike(NAME)) return -1;
    uint64_t inode = inode_of(from);
    int done = real(from, to);
    if (!done) note(R_RENAME, inode, 0, from, to, 0, 0);
    return done;
}

int link(const char *from, const char *to)
{
    REAL(link);
    if (!below(to)) return real(from, to);
    if (strike(NAME)) return -1;
    int done = real(from, to);
    if (!done) note(R_LINK, inode_of(to), 0, from, to, 0, 0);
    return done;
}

int linkat(int d1, const char *from, int d2, const char *to, int flags)
{
    REAL(linkat);
    if (!below(to)) return real(d1, from, d2, to, flags);
    if (strike(NAME)) return -1;
    int done = real(d1, from, d2, to, flags);
    if (!done) note(R_LINK, inode_of(to), 0, from, to, 0, 0);
    return done;
}

int unlink(const char *path)
{
    REAL(unlink);
    if (!below(path)) return real(path);
    if (strike(NAME)) return -1;
    uint64_t inode = inode_of(path);
    int done = real(path);
    if (!done && !shared_memory(path)) note(R_UNLINK, inode, 0, path, "", 0, 0);
    return done;
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    if (!below(path)) return real(path, mode);
    if (strike(NAME)) return -1;
    int done = real(path, mode);
    if (!done) note(R_MKDIR, inode_of(path), 0, path, "", 0, 0);
    return done;
}

static int opened(const char *path, int flags, mode_t mode)
{
    if (!below(path)) return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (strike(OPEN)) return -1;
    uint64_t before = flags & (O_CREAT | O_TRUNC) ? inode_of(path) : 1;
    int fd = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && !shared_memory(path)) {
        if (!before) note(R_CREATE, inode_behind(fd), 0, path, "", 0, 0);
        else if (flags & O_TRUNC) note(R_TRUNCATE, inode_behind(fd), 0, path, "", 0, 0);
    }
    return fd;
}

#define OPENED \
    mode_t mode = 0; \
    if (flags & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { OPENED return opened(path, flags, mode); }
int open64(const char *path, int flags, ...) { OPENED return opened(path, flags | O_LARGEFILE, mode); }

static int controlled(int fd, int command, void *argument)
{
    char path[4096];
    int takes = (command == F_SETLK || command == F_SETLKW) && ((struct flock *)argument)->l_type != F_UNLCK;
    if ((mask & LOCK) && takes && name_of(fd, path) && strike(LOCK) < 0) return -1;
    return syscall(SYS_fcntl, fd, command, argument);
}

#define CONTROLLED va_list rest; va_start(rest, command); void *argument = va_arg(rest, void *); va_end(rest);

int fcntl(int fd, int command, ...) { CONTROLLED return controlled(fd, command, argument); }
int fcntl64(int fd, int command, ...) { CONTROLLED return controlled(fd, command, argument); }

int flock(int fd, int operation)
{
    char path[4096];
    if ((mask & FLOCK) && name_of(fd, path) && strike(FLOCK) < 0) return -1;
    return syscall(SYS_flock, fd, operation);
}

int statfs(const char *path, struct statfs *found)
{
    int done = syscall(SYS_statfs, path, found);
    if (!done && filesystem && below(path)) found->f_type = filesystem;
    return done;
}

int statfs64(const char *path, struct statfs64 *found) { return statfs(path, (struct statfs *)found); }

int fstatfs(int fd, struct statfs *found)
{
    char path[4096];
    int done = syscall(SYS_fstatfs, fd, found);
    if (!done && filesystem && name_of(fd, path)) found->f_type = filesystem;
    return done;
}

int fstatfs64(int fd, struct statfs64 *found) { return fstatfs(fd, (struct statfs *)found); }
