// Counting operators: pairs of labels (region votes, confusion matrix) and mean features of regions. Counts are integer
// atomics and means are summed in a fixed order, so that two runs give the same bits.
#include "common.cuh"

constexpr int THREADS = 256;
constexpr int MEAN_LANES = 32;  // features per block of region_mean
constexpr int NO_PAIR = -1;
constexpr int KEEP = -1;

// counts[(first - offset) * columns + second] += 1 over all n pairs but those whose first is `ignored` (if there is an
// ignored value at all); `bins` is the length of counts. Lanes of a warp with the same pair add once.
// IN_SHARED: every block counts in dynamic shared memory (4 bytes per bin) and adds what it found at the end.
template <class First, class Second, bool IN_SHARED>
__global__ void __launch_bounds__(THREADS)
    count_pairs(const First* __restrict__ first, const Second* __restrict__ second, unsigned long long* counts,
                int64_t n, int64_t offset, int columns, int bins, int has_ignored, int64_t ignored) {
  DYNAMIC_SHARED(unsigned, of_block);
  if (IN_SHARED) {
    for (int i = threadIdx.x; i < bins; i += THREADS) of_block[i] = 0;
    __syncthreads();
  }
  int64_t stride = int64_t(gridDim.x) * THREADS;
  int64_t rounds = ceil_div(n, stride);  // the same for all lanes: they vote together
  int64_t i = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  for (int64_t round = 0; round < rounds; ++round, i += stride) {
    int code = NO_PAIR;
    if (i < n) {
      int64_t row = first[i], column = second[i];
      int64_t place = (row - offset) * columns + column;
      if (!(has_ignored && row == ignored) && place >= 0 && place < bins) code = int(place);
    }
    unsigned same = __match_any_sync(ALL_LANES, code);
    if (code == NO_PAIR || __ffs(int(same)) - 1 != lane_id()) continue;
    if (IN_SHARED)
      atomicAdd(of_block + code, unsigned(__popc(same)));
    else
      atomicAdd(counts + code, (unsigned long long)(__popc(same)));
  }
  if (IN_SHARED) {
    __syncthreads();
    for (int i = threadIdx.x; i < bins; i += THREADS)
      if (of_block[i]) atomicAdd(counts + i, (unsigned long long)(of_block[i]));
  }
}

// winner[r] = the label that counts[r, :] holds most of, ties: the lowest. One warp per region.
__global__ void __launch_bounds__(THREADS) pick_winners(const unsigned long long* __restrict__ counts,
                                                        int* __restrict__ winner, int regions, int classes) {
  int region = blockIdx.x * (THREADS / 32) + warp_id();
  if (region >= regions) return;
  unsigned long long most = 0;  // orders by count, then by smaller label
  for (int label = lane_id(); label < classes; label += 32) {
    unsigned long long rank = counts[int64_t(region) * classes + label] << 32 | unsigned(classes - 1 - label);
    most = rank > most ? rank : most;
  }
  most = warp_reduce(most, Max{});
  if (lane_id() == 0) winner[region] = classes - 1 - int(unsigned(most));
}

// out[i] = winner of pixel i's region, or its own label where the region has none (KEEP).
template <class Label, class Region>
__global__ void __launch_bounds__(THREADS)
    write_winners(const Label* __restrict__ labels, const Region* __restrict__ regions, const int* __restrict__ winner,
                  Label* __restrict__ out, int64_t n, int64_t offset) {
  for (int64_t i = int64_t(blockIdx.x) * THREADS + threadIdx.x; i < n; i += int64_t(gridDim.x) * THREADS) {
    int label = winner[regions[i] - offset];
    out[i] = label == KEEP ? labels[i] : Label(label);
  }
}

// means[r, c] = mean over the members of region r of features [N, d]. `members` lists the tokens region by region,
// region r from starts[r] to starts[r + 1]. A block takes MEAN_LANES features of one region; its warps share the members.
template <class T>
__global__ void __launch_bounds__(THREADS) region_mean(const T* __restrict__ features, const int64_t* __restrict__ members,
                                                       const int64_t* __restrict__ starts, float* __restrict__ means,
                                                       int d) {
  constexpr int WARPS = THREADS / 32;
  __shared__ float sums[WARPS][MEAN_LANES];
  int feature = blockIdx.y * MEAN_LANES + lane_id();
  int64_t begin = starts[blockIdx.x], end = starts[blockIdx.x + 1];
  float sum = 0.f;
  if (feature < d)
#pragma unroll 4
    for (int64_t i = begin + warp_id(); i < end; i += WARPS) sum += to_float(features[members[i] * d + feature]);
  sums[warp_id()][lane_id()] = sum;
  __syncthreads();
  if (warp_id() != 0 || feature >= d) return;
#pragma unroll
  for (int warp = 1; warp < WARPS; ++warp) sum += sums[warp][lane_id()];
  means[int64_t(blockIdx.x) * d + feature] = sum / float(end - begin);
}
