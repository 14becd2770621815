/* A file system that fails: loaded before libc (LD_PRELOAD), it counts the calls of each kind whose
   path, or whose open file's path, lies below $FAULTY_ROOT, and lets one of them fail.

   FAULTY_KIND, FAULTY_NTH, FAULTY_ERRNO: the call, from 1, and what it fails with ("all" calls
   from the N-th on if FAULTY_ON is set). FAULTY_COUNTS: a file for the counts, as 64-bit numbers.
   FAULTY_TOLD: a file that names the call that failed. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, CREATE, READ, WRITE, RENAME, MKDIR, UNLINK, LINK, TRUNCATE, STAT, LIST, LOCK, KINDS };
static const char *const names[KINDS] = {"open",   "create", "read",     "write", "rename", "mkdir",
                                         "unlink", "link",   "truncate", "stat",  "list",   "lock"};
static int64_t counts[KINDS];

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static void tell(const char *variable, const void *said, size_t size, int flags) {
  const char *path = getenv(variable);
  if (!path) return;
  int file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
  if (file < 0) return;
  syscall(SYS_write, file, said, size);
  syscall(SYS_close, file);
}

/* Whether this call is to fail; errno is set then. */
static int fails(int kind, int folder, const char *path) {
  const char *root = getenv("FAULTY_ROOT");
  if (!root) return 0;
  int before = errno;
  char whole[2 * PATH_MAX] = "", link[64];
  if (!path || path[0] != '/') {
    snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    ssize_t size = syscall(SYS_readlinkat, AT_FDCWD, link, whole, PATH_MAX);
    whole[size > 0 ? size : 0] = 0;
  }
  if (path) snprintf(whole + strlen(whole), PATH_MAX, "%s%s", path[0] == '/' ? "" : "/", path);
  errno = before;
  size_t length = strlen(root);
  if (strncmp(whole, root, length) || (whole[length] && whole[length] != '/')) return 0;
  int64_t now = __atomic_add_fetch(&counts[kind], 1, __ATOMIC_SEQ_CST);
  tell("FAULTY_COUNTS", counts, sizeof counts, 0);
  const char *wanted = getenv("FAULTY_KIND"), *nth = getenv("FAULTY_NTH");
  errno = before;
  if (!wanted || !nth || strcmp(wanted, names[kind])) return 0;
  if (getenv("FAULTY_ON") ? now < atoll(nth) : now != atoll(nth)) return 0;
  char said[3 * PATH_MAX];
  int size = snprintf(said, sizeof said, "%s %s\n", names[kind], whole);
  tell("FAULTY_TOLD", said, size, O_APPEND);
  errno = atoi(getenv("FAULTY_ERRNO"));
  return 1;
}

static int opening(int flags) { return flags & (O_CREAT | O_TRUNC) ? CREATE : OPEN; }

#define OPENING(name)                                            \
  int name(const char *path, int flags, ...) {                   \
    REAL(name);                                                  \
    va_list more;                                                \
    va_start(more, flags);                                       \
    mode_t mode = va_arg(more, mode_t);                          \
    va_end(more);                                                \
    if (fails(opening(flags), AT_FDCWD, path)) return -1;        \
    return real(path, flags, mode);                              \
  }
OPENING(open)
OPENING(open64)

#define OPENING_AT(name)                                         \
  int name(int folder, const char *path, int flags, ...) {       \
    REAL(name);                                                  \
    va_list more;                                                \
    va_start(more, flags);                                       \
    mode_t mode = va_arg(more, mode_t);                          \
    va_end(more);                                                \
    if (fails(opening(flags), folder, path)) return -1;          \
    return real(folder, path, flags, mode);                      \
  }
OPENING_AT(openat)
OPENING_AT(openat64)

#define STREAM(name)                                             \
  FILE *name(const char *path, const char *mode) {               \
    REAL(name);                                                  \
    if (fails(*mode == 'r' ? OPEN : CREATE, AT_FDCWD, path)) return NULL; \
    return real(path, mode);                                     \
  }
STREAM(fopen)
STREAM(fopen64)

#define CALL(result, name, kind, folder, path, failed, parameters, arguments) \
  result name parameters {                                       \
    REAL(name);                                                  \
    if (fails(kind, folder, path)) return failed;                \
    return real arguments;                                       \
  }
#define HERE AT_FDCWD
CALL(ssize_t, read, READ, file, NULL, -1, (int file, void *to, size_t n), (file, to, n))
CALL(ssize_t, pread, READ, file, NULL, -1, (int file, void *to, size_t n, off_t at), (file, to, n, at))
CALL(ssize_t, pread64, READ, file, NULL, -1, (int file, void *to, size_t n, off64_t at), (file, to, n, at))
CALL(ssize_t, write, WRITE, file, NULL, -1, (int file, const void *from, size_t n), (file, from, n))
CALL(ssize_t, writev, WRITE, file, NULL, -1, (int file, const struct iovec *from, int n), (file, from, n))
CALL(ssize_t, pwrite, WRITE, file, NULL, -1, (int file, const void *from, size_t n, off_t at), (file, from, n, at))
CALL(ssize_t, pwrite64, WRITE, file, NULL, -1, (int file, const void *from, size_t n, off64_t at), (file, from, n, at))
CALL(ssize_t, sendfile, WRITE, out, NULL, -1, (int out, int in, off_t *at, size_t n), (out, in, at, n))
CALL(ssize_t, sendfile64, WRITE, out, NULL, -1, (int out, int in, off64_t *at, size_t n), (out, in, at, n))
CALL(int, rename, RENAME, HERE, new, -1, (const char *old, const char *new), (old, new))
CALL(int, renameat, RENAME, to, new, -1, (int from, const char *old, int to, const char *new), (from, old, to, new))
CALL(int, renameat2, RENAME, to, new, -1, (int from, const char *old, int to, const char *new, unsigned flags), (from, old, to, new, flags))
CALL(int, mkdir, MKDIR, HERE, path, -1, (const char *path, mode_t mode), (path, mode))
CALL(int, mkdirat, MKDIR, folder, path, -1, (int folder, const char *path, mode_t mode), (folder, path, mode))
CALL(int, unlink, UNLINK, HERE, path, -1, (const char *path), (path))
CALL(int, rmdir, UNLINK, HERE, path, -1, (const char *path), (path))
CALL(int, unlinkat, UNLINK, folder, path, -1, (int folder, const char *path, int flags), (folder, path, flags))
CALL(int, link, LINK, HERE, new, -1, (const char *old, const char *new), (old, new))
CALL(int, linkat, LINK, to, new, -1, (int from, const char *old, int to, const char *new, int flags), (from, old, to, new, flags))
CALL(int, truncate, TRUNCATE, HERE, path, -1, (const char *path, off_t size), (path, size))
CALL(int, ftruncate, TRUNCATE, file, NULL, -1, (int file, off_t size), (file, size))
CALL(int, ftruncate64, TRUNCATE, file, NULL, -1, (int file, off64_t size), (file, size))
CALL(int, stat, STAT, HERE, path, -1, (const char *path, struct stat *to), (path, to))
CALL(int, lstat, STAT, HERE, path, -1, (const char *path, struct stat *to), (path, to))
CALL(int, fstatat, STAT, folder, path, -1, (int folder, const char *path, struct stat *to, int flags), (folder, path, to, flags))
CALL(int, stat64, STAT, HERE, path, -1, (const char *path, struct stat64 *to), (path, to))
CALL(int, lstat64, STAT, HERE, path, -1, (const char *path, struct stat64 *to), (path, to))
CALL(DIR *, opendir, LIST, HERE, path, NULL, (const char *path), (path))
CALL(int, flock, LOCK, file, NULL, -1, (int file, int how), (file, how))
