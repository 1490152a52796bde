/* Include last, after the system's headers, in every .c outside engine/base: these calls are compile errors there.
 * Time, entropy and unbounded string functions come from base (clock.h, entropy.h, bytes.h, mem.h). */
#ifndef LOAM_BASE_BANNED_H
#define LOAM_BASE_BANNED_H

#define BANNED(f) sorry_##f##_is_banned_see_engine_base_banned_h
#undef strcpy
#define strcpy(...) BANNED(strcpy)
#undef strcat
#define strcat(...) BANNED(strcat)
#undef sprintf
#define sprintf(...) BANNED(sprintf)
#undef vsprintf
#define vsprintf(...) BANNED(vsprintf)
#undef gets
#define gets(...) BANNED(gets)
#undef strtok
#define strtok(...) BANNED(strtok)
#undef rand
#define rand(...) BANNED(rand)
#undef srand
#define srand(...) BANNED(srand)
#undef getrandom
#define getrandom(...) BANNED(getrandom)
#undef gettimeofday
#define gettimeofday(...) BANNED(gettimeofday)
#undef clock_gettime
#define clock_gettime(...) BANNED(clock_gettime)
#undef uv_now
#define uv_now(...) BANNED(uv_now)
#undef time
#define time(...) BANNED(time)
#undef malloc
#define malloc(...) BANNED(malloc)
#undef calloc
#define calloc(...) BANNED(calloc)
#undef realloc
#define realloc(...) BANNED(realloc)
#undef strdup
#define strdup(...) BANNED(strdup)

#endif
