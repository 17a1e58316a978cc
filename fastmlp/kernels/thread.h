/* What the worker team needs of the operating system and Python does not offer. For _team.pyx alone. */
#ifndef FASTMLP_THREAD_H
#define FASTMLP_THREAD_H

#if defined(_WIN32)
#  include <windows.h>
#  include <process.h>
#  define THREAD_LOCAL __declspec(thread)
#else
#  include <pthread.h>
#  define THREAD_LOCAL __thread
#endif

/* The versions of two names that every glibc has. 2.34 moved them from libpthread into libc; the linker would take the
 * versions they have there, and older systems would refuse the binary. A sanitizer replaces the plain names. */
#if defined(__GLIBC__) && !defined(__SANITIZE_THREAD__)
#  if __GLIBC_PREREQ(2, 34) && defined(__x86_64__)
#    define FIRST_VERSION "GLIBC_2.2.5"
#  elif __GLIBC_PREREQ(2, 34) && defined(__aarch64__)
#    define FIRST_VERSION "GLIBC_2.17"
#  endif
#endif
#if defined(FIRST_VERSION)
__asm__(".symver pthread_create, pthread_create@" FIRST_VERSION);
__asm__(".symver pthread_attr_setstacksize, pthread_attr_setstacksize@" FIRST_VERSION);
#endif

/* Of a worker, in bytes: enough for any kernel, whatever threading.stack_size() says. */
enum { WORKER_STACK = 1 << 20 };

/* Starts a thread that runs function(argument) and that nobody joins; 0 where the system has none to give. The function
 * has to be the same in all calls: it is noted once, before there is a thread that reads it. */
static void (*thread_function)(void *);

#if defined(_WIN32)
static unsigned __stdcall enter_thread(void *argument) {
    thread_function(argument);
    return 0;
}
static int start_thread(void (*function)(void *), void *argument) {
    if (thread_function == NULL) thread_function = function;
    uintptr_t thread = _beginthreadex(NULL, WORKER_STACK, enter_thread, argument, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    if (thread == 0) return 0;
    CloseHandle((HANDLE)thread);
    return 1;
}
#else
static void *enter_thread(void *argument) {
    thread_function(argument);
    return NULL;
}
static int start_thread(void (*function)(void *), void *argument) {
    pthread_attr_t attributes;
    pthread_t thread;
    if (thread_function == NULL) thread_function = function;
    if (pthread_attr_init(&attributes) != 0) return 0;
    int started = pthread_attr_setstacksize(&attributes, WORKER_STACK) == 0
        && pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0
        && pthread_create(&thread, &attributes, enter_thread, argument) == 0;
    pthread_attr_destroy(&attributes);
    return started;
}
#endif

/* Has the child of every fork call a function before it does anything else, also of a fork that Python knows nothing of.
 * 0 where that cannot be had. */
static int in_forked_child(void (*function)(void)) {
#if defined(_WIN32)
    (void)function;
    return 1;
#else
    return pthread_atfork(NULL, NULL, function) == 0;
#endif
}
#endif
