// What every kernel shares: storage types, reductions, tensor core and copy instructions.
//
// The same source is compiled three ways: by NVRTC on the user's machine (through CuPy), by NVRTC in CI for the kernel
// table, and by g++ against tests/ops/cuda/emulation.h, which runs a block's threads one after another on the CPU. So:
// no <<<>>>, no standard headers, dynamic shared memory through DYNAMIC_SHARED, inline PTX only in this file.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#ifdef __CUDACC_RTC__  // NVRTC has no <cstdint>
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <cstdint>
#endif
#define DYNAMIC_SHARED(T, name)                                        \
  extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[]; \
  T* name = reinterpret_cast<T*>(dynamic_shared_bytes)
#else
#include "emulation.h"
#endif

#define DEVICE __device__ __forceinline__

constexpr unsigned ALL_LANES = 0xffffffffu;

DEVICE float positive_infinity() { return __int_as_float(0x7f800000); }
DEVICE int lane_id() { return threadIdx.x & 31; }
DEVICE int warp_id() { return threadIdx.x >> 5; }
template <class T> DEVICE T ceil_div(T a, T b) { return (a + b - 1) / b; }

// Storage types: float, __half and __nv_bfloat16 in memory, fp32 arithmetic.
DEVICE float to_float(float x) { return x; }
DEVICE float to_float(__half x) { return __half2float(x); }
DEVICE float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T> DEVICE T from_float(float x);  // round to nearest even
template <> DEVICE float from_float<float>(float x) { return x; }
template <> DEVICE __half from_float<__half>(float x) { return __float2half_rn(x); }
template <> DEVICE __nv_bfloat16 from_float<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }

// Two 16-bit values in one register, `low` in the lower half (the lower column of a fragment).
template <class T> DEVICE uint32_t pack2(float low, float high);
template <> DEVICE uint32_t pack2<__half>(float low, float high) {
  __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<uint32_t*>(&pair);
}
template <> DEVICE uint32_t pack2<__nv_bfloat16>(float low, float high) {
  __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<uint32_t*>(&pair);
}

// Reductions. Every lane (thread) gets the result; all lanes of the warp (threads of the block) must take part.
struct Sum {
  template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
struct Max {
  template <class T> __device__ T operator()(T a, T b) const { return a < b ? b : a; }
};
struct Min {
  template <class T> __device__ T operator()(T a, T b) const { return b < a ? b : a; }
};

template <class Op, class T> DEVICE T warp_reduce(T value, Op op) {
#pragma unroll
  for (int distance = 16; distance; distance >>= 1) value = op(value, __shfl_xor_sync(ALL_LANES, value, distance));
  return value;
}

template <int THREADS, class Op, class T> DEVICE T block_reduce(T value, Op op) {
  static_assert(THREADS % 32 == 0, "a block is whole warps");
  __shared__ T of_warp[THREADS / 32];
  value = warp_reduce(value, op);
  __syncthreads();  // an earlier call's results have been read
  if (lane_id() == 0) of_warp[warp_id()] = value;
  __syncthreads();
  value = of_warp[0];
#pragma unroll
  for (int warp = 1; warp < THREADS / 32; ++warp) value = op(value, of_warp[warp]);
  return value;
}

// Tensor cores: d[16 x 8] += a[16 x 16] . b[16 x 8], fp32 accumulators, T = __half or __nv_bfloat16 (sm_80 and later).
// Fragments as PTX documents them for mma.m16n8k16; with g = lane / 4 and t = lane % 4 a register holds
//   a[0]: (row g, columns 2t, 2t+1)   a[1]: (row g+8, columns 2t, 2t+1)   a[2]: (g, 2t+8, 2t+9)   a[3]: (g+8, 2t+8, 2t+9)
//   b[0]: (rows 2t, 2t+1, column g)   b[1]: (rows 2t+8, 2t+9, column g)
//   d[0], d[1]: (row g, columns 2t, 2t+1)   d[2], d[3]: (row g+8, columns 2t, 2t+1)
#ifdef __CUDACC__
template <class T> DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
#define OVSEG_MMA(T, name)                                                                                  \
  template <> DEVICE void mma_m16n8k16<T>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {   \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 "                             \
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"                                  \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                           \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                       \
  }
OVSEG_MMA(__half, "f16")
OVSEG_MMA(__nv_bfloat16, "bf16")
#undef OVSEG_MMA

// 2^x in one instruction, to 2 units in the last place; results below 2^-126 become 0 (exp2f takes four to keep them).
DEVICE float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

DEVICE uint32_t shared_address(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }

// Four 8 x 8 matrices of 16-bit values from shared memory: lane l gives the 16-byte aligned address of row l % 8 of
// matrix l / 8, and receives in r[m] the two values (row l / 4, columns 2 (l % 4), + 1) of matrix m; transposed:
// (rows 2 (l % 4), + 1, column l / 4).
DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
DEVICE void ldmatrix_x4_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// 16 bytes from global to shared memory without passing through registers; zeros where `valid` is false (the global
// address is not read then). Complete after cp_async_wait and a __syncthreads().
DEVICE void cp_async16(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
               : "memory");
}
DEVICE void cp_async4(void* shared, const void* global) {  // 4 bytes, for addresses that are not aligned to 16
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;\n" ::"r"(shared_address(shared)),
               "l"(__cvta_generic_to_global(global))
               : "memory");
}
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Wait until at most PENDING of this thread's committed groups are under way.
template <int PENDING> DEVICE void cp_async_wait() { asm volatile("cp.async.wait_group %0;\n" ::"n"(PENDING) : "memory"); }
#endif
