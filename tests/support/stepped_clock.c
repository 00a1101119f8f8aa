// A wall clock that a test steps: preloaded, it adds the nanoseconds in the file STEPPED_CLOCK to CLOCK_REALTIME only.
// A thread that waits until a wall clock time wakes up when that clock reaches it, as the kernel does it; libfaketime
// fixes the length of such a wait when it begins, and so cannot show what a clock that is set back does to it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define SLICE (10 * 1000000LL)
#define YEAR_2000 946684800

static volatile const int64_t *offset;

__attribute__((constructor)) static void find_offset(void) {
  const char *path = getenv("STEPPED_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0)
    return;
  void *mapped = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (mapped != MAP_FAILED)
    offset = mapped;
}

static int64_t now(clockid_t clock) {
  struct timespec at = {0};
  syscall(SYS_clock_gettime, clock, &at);
  return at.tv_sec * SECOND + at.tv_nsec + (clock == CLOCK_REALTIME && offset ? *offset : 0);
}

static struct timespec moment(int64_t at) { return (struct timespec){at / SECOND, at % SECOND}; }

int clock_gettime(clockid_t clock, struct timespec *at) {
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
    *at = moment(now(CLOCK_REALTIME));
    return 0;
  }
  return syscall(SYS_clock_gettime, clock, at);
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  int64_t nanoseconds = now(CLOCK_REALTIME);
  (void)zone;
  *at = (struct timeval){nanoseconds / SECOND, nanoseconds % SECOND / 1000};
  return 0;
}

time_t time(time_t *at) {
  time_t seconds = now(CLOCK_REALTIME) / SECOND;
  if (at)
    *at = seconds;
  return seconds;
}

int timespec_get(struct timespec *at, int base) {
  *at = moment(now(CLOCK_REALTIME));
  return base;
}

static int wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t end) {
  for (;;) {
    int64_t left = end - now(CLOCK_REALTIME);
    if (left <= 0)
      return ETIMEDOUT;
    struct timespec slice = moment(now(CLOCK_MONOTONIC) + (left < SLICE ? left : SLICE));
    int answer = pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &slice);
    if (answer != ETIMEDOUT)
      return answer;
  }
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
  if (until->tv_sec < YEAR_2000) // Python's own, by the monotonic clock
    return pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, until);
  return wait_until(cond, mutex, until->tv_sec * SECOND + until->tv_nsec);
}

// What librdkafka waits with; in glibc it is the same condition by another name.
int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until) {
  int answer = wait_until((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, until->tv_sec * SECOND + until->tv_nsec);
  return answer == 0 ? thrd_success : answer == ETIMEDOUT ? thrd_timedout : thrd_error;
}
