// Small kernels that exercise what common.cuh and the emulation promise; see test_emulation.py.
#include "common.cuh"

// out[i] = from_float(to_float(in[i]))
template <class From, class To> __global__ void convert(const From* in, To* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = from_float<To>(to_float(in[i]));
}

// sums[b] and peaks[b] of the block's THREADS values
template <int THREADS> __global__ void reduce(const float* in, float* sums, float* peaks) {
  float x = in[blockIdx.x * THREADS + threadIdx.x];
  float sum = block_reduce<THREADS>(x, Sum{}), peak = block_reduce<THREADS>(x, Max{});
  if (threadIdx.x == THREADS - 1) {
    sums[blockIdx.x] = sum;
    peaks[blockIdx.x] = peak;
  }
}

// d[16, 8] = a[16, 16] . b[16, 8], one warp; fragments read element by element, as PTX numbers them
template <class T> __global__ void mma_by_element(const T* a, const T* b, float* d) {
  int group = lane_id() / 4, t = lane_id() % 4;
  float sums[4] = {0.f, 0.f, 0.f, 0.f};
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; ++i) {
    const T* at = a + (group + i % 2 * 8) * 16 + t * 2 + i / 2 * 8;
    fa[i] = pack2<T>(to_float(at[0]), to_float(at[1]));
  }
  for (int i = 0; i < 2; ++i) {
    const T* at = b + (t * 2 + i * 8) * 8 + group;
    fb[i] = pack2<T>(to_float(at[0]), to_float(at[8]));
  }
  mma_m16n8k16<T>(sums, fa, fb);
  for (int i = 0; i < 4; ++i) d[(group + i / 2 * 8) * 8 + t * 2 + i % 2] = sums[i];
}

// d[16, 8] = a[16, 16] . b[16, 8]: cp.async to shared memory, ldmatrix, mma; b16 is [16, 16] whose left half is b
template <class T> __global__ void mma_by_matrix(const T* a, const T* b16, float* d) {
  DYNAMIC_SHARED(T, tile);  // a, then b16
  int lane = lane_id();
  for (int chunk = lane; chunk < 64; chunk += 32)
    cp_async16(tile + chunk * 8, chunk < 32 ? a + chunk * 8 : b16 + (chunk - 32) * 8, true);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  uint32_t fa[4], fb[4];
  ldmatrix_x4(fa, tile + (lane % 16) * 16 + lane / 16 * 8);
  ldmatrix_x4_transposed(fb, tile + 256 + (lane % 16) * 16 + lane / 16 * 8);
  uint32_t left[2] = {fb[0], fb[1]};
  float sums[4] = {0.f, 0.f, 0.f, 0.f};
  mma_m16n8k16<T>(sums, fa, left);
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

// Shuffles and votes, one line of results per operation, 48 threads (a whole and a half warp)
__global__ void lanes(int* out) {
  int i = threadIdx.x, n = blockDim.x, v = 100 + i;
  unsigned all = i < 32 ? ALL_LANES : 0xffffu;
  out[0 * n + i] = __shfl_xor_sync(all, v, 5);
  out[1 * n + i] = __shfl_down_sync(all, v, 3, 8);
  out[2 * n + i] = __shfl_up_sync(all, v, 2);
  out[3 * n + i] = __shfl_sync(all, v, 1, 4);
  out[4 * n + i] = __popc(__ballot_sync(all, i % 3 == 0));
  out[5 * n + i] = __popc(__match_any_sync(all, i % 5));
  out[6 * n + i] = __syncthreads_count(i % 2);
}

// What must not go unnoticed
__global__ void faulty(int* out, int n, int kind) {
  __shared__ int first;
  if (kind == 0 && threadIdx.x < 16) __syncthreads();      // the others leave: fine on a GPU
  if (kind == 1 && threadIdx.x < 16) __syncwarp();          // half a warp waits ...
  if (kind == 1 && threadIdx.x >= 16) __syncthreads();      // ... for threads that wait elsewhere
  if (kind == 2 && threadIdx.x == 0) out[n] = 1;            // past the end
  if (kind == 3) {                                          // a barrier is missing after the write
    if (threadIdx.x == 0) first = out[0];
    out[threadIdx.x] = first;
  }
  if (kind == 4) {                                          // dynamic shared memory has room for 32
    DYNAMIC_SHARED(int, memory);
    memory[threadIdx.x] = 1;
    out[threadIdx.x] = memory[threadIdx.x + (threadIdx.x == 31)];
  }
}
