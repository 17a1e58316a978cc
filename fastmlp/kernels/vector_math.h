/* The coefficients of vector_math.pxi. bench/fit_coefficients.py fits them and prints what follows. */
#ifndef FASTMLP_VECTOR_MATH_H
#define FASTMLP_VECTOR_MATH_H

#if defined(FASTMLP_REAL_f64)
#define LOG2E 1.4426950408889634e+00
#define LN2_HI 6.9314718055989033e-01
#define LN2_LO 5.4979230187083712e-14
#define EXP_MIN -7.4520000000000005e+02
#define EXP_MAX 7.0979999999999995e+02
#define SIGMOID_MAX 3.7500000000000000e+01
#define TANH_MAX 1.9100000000000001e+01
#define SMALLEST_NORMAL 2.2250738585072014e-308
#define SQRT_HALF_BITS 0x3fe6a09e667f3bcd
enum { EXP_TERMS = 11, LOG_TERMS = 7 };
/* |r| <= 0.347: relative error of expm1(r) 2^-60.1 */
static const real EXP_Q[] = {
    2.0921691353014625e-09,
    2.5105337854952117e-08,
    2.7557252610486329e-07,
    2.7557255109321506e-06,
    2.4801587347652375e-05,
    1.9841269875050407e-04,
    1.3888888888874266e-03,
    8.3333333333260699e-03,
    4.1666666666666685e-02,
    1.6666666666666671e-01,
    5.0000000000000000e-01,
};
/* |s| <= 0.1716: relative error of log 2^-57.6 */
static const real LOG_P[] = {
    1.4617736769938491e-01,
    1.5331607967937536e-01,
    1.8182892887123378e-01,
    2.2222211077399734e-01,
    2.8571428626371254e-01,
    3.9999999999898506e-01,
    6.6666666666666696e-01,
};
#else
#define LOG2E 1.44269504e+00f
#define LN2_HI 6.93145752e-01f
#define LN2_LO 1.42860682e-06f
#define EXP_MIN -1.04000000e+02f
#define EXP_MAX 8.88000000e+01f
#define SIGMOID_MAX 1.74000000e+01f
#define TANH_MAX 9.10000000e+00f
#define SMALLEST_NORMAL 1.17549435e-38f
#define SQRT_HALF_BITS 0x3f3504f3
enum { EXP_TERMS = 6, LOG_TERMS = 3 };
/* |r| <= 0.347: relative error of expm1(r) 2^-29.1 */
static const real EXP_Q[] = {
    1.99077374e-04f,
    1.39337534e-03f,
    8.33328534e-03f,
    4.16664630e-02f,
    1.66666672e-01f,
    5.00000000e-01f,
};
/* |s| <= 0.1716: relative error of log 2^-28.6 */
static const real LOG_P[] = {
    2.95820475e-01f,
    3.99887174e-01f,
    6.66666865e-01f,
};
#endif

#endif
