// Pixel-adaptive mask refinement (Araslanov & Roth 2020, section 4.3); the definition is ovseg/ops/reference.py.
// Neighbour k of pixel (y, x): dilation k / 8, then the ring row by row without its centre; borders are replicated.
#include "common.cuh"

constexpr int TILE_WIDTH = 32;  // one warp per row of pixels
constexpr int THREADS = 256;
constexpr int TILE_ROWS = THREADS / TILE_WIDTH;

struct Dilations {
  int d[6];
};

DEVICE int clamped(int value, int size) { return min(max(value, 0), size - 1); }
DEVICE int ring_row(int k) { return (k < 4 ? k : k + 1) / 3 - 1; }     // -1, 0, 1 for k = 0..7
DEVICE int ring_column(int k) { return (k < 4 ? k : k + 1) % 3 - 1; }

// image [B, C, H, W] -> affinity [B, H, W, 8 * RINGS], fp32. One thread per pixel; the 16 differences of a channel and
// the running logits stay in registers. Taps go through the L1 cache: a shared tile would load ten times its pixels.
template <class T, int RINGS>
__global__ void __launch_bounds__(THREADS) pamr_affinity(const T* __restrict__ image, float* __restrict__ affinity,
                                                         int channels, int height, int width, int d0, int d1, int d2,
                                                         int d3, int d4, int d5) {
  const Dilations dilation = {{d0, d1, d2, d3, d4, d5}};
  int x = blockIdx.x * TILE_WIDTH + lane_id(), y = blockIdx.y * TILE_ROWS + warp_id();
  if (x >= width || y >= height) return;
  constexpr int COUNT = 8 * RINGS;
  constexpr int SAMPLES = COUNT + RINGS;  // the centre counts once per dilation
  float logits[COUNT];
#pragma unroll
  for (int k = 0; k < COUNT; ++k) logits[k] = 0.f;
  for (int c = 0; c < channels; ++c) {
    const T* plane = image + (int64_t(blockIdx.z) * channels + c) * height * width;
    float centre = to_float(plane[int64_t(y) * width + x]);
    float difference[COUNT], total = 0.f, squares = 0.f;
#pragma unroll
    for (int k = 0; k < COUNT; ++k) {
      int row = clamped(y + ring_row(k % 8) * dilation.d[k / 8], height);
      int column = clamped(x + ring_column(k % 8) * dilation.d[k / 8], width);
      difference[k] = to_float(plane[int64_t(row) * width + column]) - centre;
      total += difference[k];
      squares += difference[k] * difference[k];
    }
    // Variance from differences to the centre, whose own is 0: one sample in nine is 0, so the subtraction loses at
    // most a factor of nine in precision.
    float variance = fmaxf(squares - total * total / SAMPLES, 0.f) / (SAMPLES - 1);
    float weight = 1.f / ((1e-8f + 0.1f * sqrtf(variance)) * channels);
#pragma unroll
    for (int k = 0; k < COUNT; ++k) logits[k] -= fabsf(difference[k]) * weight;
  }
  float peak = logits[0], sum = 0.f;
#pragma unroll
  for (int k = 1; k < COUNT; ++k) peak = fmaxf(peak, logits[k]);
#pragma unroll
  for (int k = 0; k < COUNT; ++k) sum += logits[k] = expf(logits[k] - peak);
  float4* out = reinterpret_cast<float4*>(affinity) + ((int64_t(blockIdx.z) * height + y) * width + x) * (COUNT / 4);
#pragma unroll
  for (int k = 0; k < COUNT; k += 4)
    out[k / 4] = make_float4(logits[k] / sum, logits[k + 1] / sum, logits[k + 2] / sum, logits[k + 3] / sum);
}

// Fill a tile with its halo, borders replicated. fp32 goes straight to shared memory, other types through registers.
DEVICE void load_tile(float* tile, const float* plane, int top, int left, int rows, int columns, int height, int width) {
  for (int row = warp_id(); row < rows; row += TILE_ROWS)
    for (int column = lane_id(); column < columns; column += TILE_WIDTH)
      cp_async4(tile + row * columns + column,
                plane + int64_t(clamped(top + row, height)) * width + clamped(left + column, width));
}
template <class T>
DEVICE void load_tile(float* tile, const T* plane, int top, int left, int rows, int columns, int height, int width) {
  for (int row = warp_id(); row < rows; row += TILE_ROWS)
    for (int column = lane_id(); column < columns; column += TILE_WIDTH)
      tile[row * columns + column] =
          to_float(plane[int64_t(clamped(top + row, height)) * width + clamped(left + column, width)]);
}

// One iteration: target[b, q, y, x] = sum over k of affinity[b, y, x, k] * source[b, q, neighbour k of (y, x)].
// A block keeps the weights of TILE_WIDTH x (TILE_ROWS * PIXELS) pixels in registers and walks through its queries; the
// tile of the next query arrives in the second half of the shared memory meanwhile.
// grid: (tiles x groups of `queries_per_block` queries, 1, B); neighbouring blocks share a tile and its affinity in L2.
template <class In, class Out, int RINGS, int PIXELS>
__global__ void __launch_bounds__(THREADS, RINGS > 4 ? 1 : 2) pamr_apply(const float* __restrict__ affinity, const In* __restrict__ source,
                                                      Out* __restrict__ target, int queries, int queries_per_block,
                                                      int height, int width, int halo, int d0, int d1, int d2, int d3,
                                                      int d4, int d5) {
  const Dilations dilation = {{d0, d1, d2, d3, d4, d5}};
  DYNAMIC_SHARED(float, tiles);
  constexpr int COUNT = 8 * RINGS;
  int groups = ceil_div(queries, queries_per_block), across = ceil_div(width, TILE_WIDTH);
  int group = blockIdx.x % groups, tile_index = blockIdx.x / groups;
  int left = tile_index % across * TILE_WIDTH, top = tile_index / across * (TILE_ROWS * PIXELS);
  int rows = TILE_ROWS * PIXELS + 2 * halo, columns = TILE_WIDTH + 2 * halo;
  int x = left + lane_id();
  float weight[PIXELS][COUNT];
#pragma unroll
  for (int p = 0; p < PIXELS; ++p) {
    int y = clamped(top + warp_id() + p * TILE_ROWS, height);  // past the border: computed, not stored
    const float4* from = reinterpret_cast<const float4*>(affinity) +
                         ((int64_t(blockIdx.z) * height + y) * width + clamped(x, width)) * (COUNT / 4);
#pragma unroll
    for (int k = 0; k < COUNT; k += 4) {
      float4 four = from[k / 4];
      weight[p][k] = four.x, weight[p][k + 1] = four.y, weight[p][k + 2] = four.z, weight[p][k + 3] = four.w;
    }
  }
  int64_t area = int64_t(height) * width;
  int first = group * queries_per_block, last = min(first + queries_per_block, queries);
  source += int64_t(blockIdx.z) * queries * area;
  target += int64_t(blockIdx.z) * queries * area;
  load_tile(tiles, source + first * area, top - halo, left - halo, rows, columns, height, width);
  cp_async_commit();
  for (int query = first; query < last; ++query) {
    float* tile = tiles + (query - first) % 2 * rows * columns;
    if (query + 1 < last)
      load_tile(tiles + (query + 1 - first) % 2 * rows * columns, source + (query + 1) * area, top - halo, left - halo,
                rows, columns, height, width);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
#pragma unroll
    for (int p = 0; p < PIXELS; ++p) {
      const float* centre = tile + (warp_id() + p * TILE_ROWS + halo) * columns + lane_id() + halo;
      float sum = 0.f;
#pragma unroll
      for (int k = 0; k < COUNT; ++k)
        sum += weight[p][k] * centre[dilation.d[k / 8] * (ring_row(k % 8) * columns + ring_column(k % 8))];
      int y = top + warp_id() + p * TILE_ROWS;
      if (x < width && y < height) target[query * area + int64_t(y) * width + x] = from_float<Out>(sum);
    }
    __syncthreads();  // everyone is done with this tile before the next-but-one query overwrites it
  }
}
