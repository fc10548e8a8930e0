// Labels of rows @ scores[q] @ columns.T without full-size maps; the definitions are in ovseg/ops/reference.py.
//
// A block owns a tile of 32 x 32 pixels: 512 threads, each 2 pixels of one column, for which it keeps running winners
// in registers while it walks over the queries, GROUP at a time. The weights are non-negative and sum to one, so a
// query's map stays between the smallest and the largest score that the tile touches: a query whose largest lies
// below another's smallest cannot win there and is skipped, exactly.
//
// Scores come as [gy * gx, Q]: neighbouring threads read neighbouring queries.
#include "common.cuh"

constexpr int THREADS = 512;
constexpr int TILE = 32;
constexpr int WARPS = THREADS / 32;
constexpr int PIXELS = TILE / WARPS;  // per thread: rows warp, warp + 16
constexpr int GROUP = 8;              // queries at a time
constexpr int SEGMENT = 16;           // touched cells per axis at a time
constexpr float MARGIN = 1e-5f;       // of the largest score: what rounding may change
constexpr int BARRED = -1;            // class of queries that cannot win

struct __align__(16) Shared {
  float patch[SEGMENT][SEGMENT][GROUP];  // touched scores of a group [y][x][query]
  float lines[TILE][SEGMENT][GROUP];     // rows @ patch
  float row[SEGMENT][TILE];              // weights of the segment's cells for each pixel row, column
  float column[SEGMENT][TILE];
  int survivors[THREADS];
  int kept_by_warp[WARPS];
  int touched[2];  // cells on each axis
};
static_assert(sizeof(Shared) == 30800, "FIXED_SHARED in argmax.py");

// Where the tile lies and which cells it touches; the lists are behind Shared in dynamic shared memory.
template <class T> struct Tile {
  Shared& s;
  const T* scores;
  const float *rows, *columns;
  int queries, gy, gx, height, width;
  int top, left;
  int *cells_y, *cells_x;

  __device__ Tile(unsigned char* memory, const T* scores, const float* rows, const float* columns, int queries, int gy,
                  int gx, int height, int width)
      : s(*reinterpret_cast<Shared*>(memory)), scores(scores), rows(rows), columns(columns), queries(queries), gy(gy),
        gx(gx), height(height), width(width), top(blockIdx.y * TILE), left(blockIdx.x * TILE) {
    cells_y = reinterpret_cast<int*>(memory + sizeof(Shared));
    cells_x = cells_y + gy;
    if (warp_id() == 0) find_touched(rows, gy, top, min(top + TILE, height), cells_y, &s.touched[0]);
    if (warp_id() == 1) find_touched(columns, gx, left, min(left + TILE, width), cells_x, &s.touched[1]);
    __syncthreads();
    load_weights(0, 0);
  }

  // Cells with a non-zero weight for any of the tile's pixels on one axis, ascending. One warp.
  __device__ void find_touched(const float* matrix, int cells, int begin, int end, int* list, int* count) {
    int found = 0;
    for (int start = 0; start < cells; start += 32) {
      int cell = start + lane_id();
      bool used = false;
      if (cell < cells)
        for (int pixel = begin; pixel < end; ++pixel) used |= matrix[int64_t(pixel) * cells + cell] != 0.f;
      unsigned bits = __ballot_sync(ALL_LANES, used);
      if (used) list[found + __popc(bits & ((1u << lane_id()) - 1))] = cell;
      found += __popc(bits);
    }
    if (lane_id() == 0) *count = found;
  }

  __device__ int ny() const { return s.touched[0]; }
  __device__ int nx() const { return s.touched[1]; }

  // Weights of the segments that start at the touched cells y0 and x0; 0 past the lists' ends and the image's border.
  __device__ void load_weights(int y0, int x0) {
    for (int i = threadIdx.x; i < SEGMENT * TILE; i += THREADS) {
      int cell = i / TILE, pixel = i % TILE;
      bool in_y = y0 + cell < ny() && top + pixel < height, in_x = x0 + cell < nx() && left + pixel < width;
      s.row[cell][pixel] = in_y ? rows[int64_t(top + pixel) * gy + cells_y[y0 + cell]] : 0.f;
      s.column[cell][pixel] = in_x ? columns[int64_t(left + pixel) * gx + cells_x[x0 + cell]] : 0.f;
    }
  }

  // Call visit(score) for every touched score of one query.
  template <class Visit> __device__ void touched_scores(int query, Visit&& visit) {
#pragma unroll 1
    for (int y = 0; y < ny(); ++y)
      for (int x = 0; x < nx(); ++x)
        visit(to_float(scores[(int64_t(cells_y[y]) * gx + cells_x[x]) * queries + query]));
  }

  // value[p][g] = map of query `list[g]` at this thread's pixel p, g < count. All threads take part.
  __device__ void maps(const int* list, int count, float (&value)[PIXELS][GROUP]) {
    bool single = ny() <= SEGMENT && nx() <= SEGMENT;  // the weights of the only segments are there already
#pragma unroll
    for (int p = 0; p < PIXELS; ++p)
#pragma unroll
      for (int g = 0; g < GROUP; ++g) value[p][g] = 0.f;
#pragma unroll 1
    for (int x0 = 0; x0 < nx(); x0 += SEGMENT) {
      int across = min(SEGMENT, nx() - x0);
#pragma unroll 1
      for (int y0 = 0; y0 < ny(); y0 += SEGMENT) {
        int down = min(SEGMENT, ny() - y0);
        __syncthreads();  // the previous patch and lines have been read
        if (!single) load_weights(y0, x0);
        for (int i = threadIdx.x; i < down * across * GROUP; i += THREADS) {
          int g = i % GROUP, x = i / GROUP % across, y = i / GROUP / across;
          int64_t cell = int64_t(cells_y[y0 + y]) * gx + cells_x[x0 + x];
          s.patch[y][x][g] = g < count ? to_float(scores[cell * queries + list[g]]) : 0.f;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < TILE * across * GROUP; i += THREADS) {
          int g = i % GROUP, x = i / GROUP % across, row = i / GROUP / across;
          float sum = y0 ? s.lines[row][x][g] : 0.f;
          for (int y = 0; y < down; ++y) sum += s.row[y][row] * s.patch[y][x][g];
          s.lines[row][x][g] = sum;
        }
      }
      __syncthreads();
#pragma unroll 1
      for (int x = 0; x < across; ++x) {
        float weight = s.column[x][lane_id()];
#pragma unroll
        for (int p = 0; p < PIXELS; ++p) {
          const float4* line = reinterpret_cast<const float4*>(s.lines[warp_id() + p * WARPS][x]);
          float4 a = line[0], b = line[1];
          value[p][0] += weight * a.x, value[p][1] += weight * a.y, value[p][2] += weight * a.z;
          value[p][3] += weight * a.w, value[p][4] += weight * b.x, value[p][5] += weight * b.y;
          value[p][6] += weight * b.z, value[p][7] += weight * b.w;
        }
      }
    }
  }

  // Call visit(values, queries of the group, how many) for all queries that `keep`; all threads take part.
  template <class Keep, class Visit> __device__ void walk(Keep&& keep, Visit&& visit) {
#pragma unroll 1
    for (int start = 0; start < queries; start += THREADS) {
      // A list in ascending order, so that a class's queries stay together.
      int query = start + int(threadIdx.x);
      bool kept = query < queries && keep(query);
      unsigned bits = __ballot_sync(ALL_LANES, kept);
      __syncthreads();  // the previous list has been read
      if (lane_id() == 0) s.kept_by_warp[warp_id()] = __popc(bits);
      __syncthreads();
      int at = __popc(bits & ((1u << lane_id()) - 1)), count = 0;
      for (int warp = 0; warp < WARPS; ++warp) {
        if (warp < warp_id()) at += s.kept_by_warp[warp];
        count += s.kept_by_warp[warp];
      }
      if (kept) s.survivors[at] = query;
      __syncthreads();
#pragma unroll 1
      for (int first = 0; first < count; first += GROUP) {
        float value[PIXELS][GROUP];
        int size = min(GROUP, count - first);
        maps(s.survivors + first, size, value);
        visit(value, s.survivors + first, size);
      }
    }
  }

  __device__ int x() const { return left + lane_id(); }
  __device__ int y(int p) const { return top + warp_id() + p * WARPS; }
  __device__ bool inside(int p) const { return x() < width && y(p) < height; }
};

// Running log-sum-exp of scale * value.
struct LogSumExp {
  float peak = -positive_infinity(), sum = 0.f;
  __device__ void add(const float (&value)[GROUP], int size, float scale) {
    float top = peak;
#pragma unroll
    for (int g = 0; g < GROUP; ++g)
      if (g < size) top = fmaxf(top, value[g] * scale);
    sum *= expf(peak - top);
    peak = top;
#pragma unroll
    for (int g = 0; g < GROUP; ++g)
      if (g < size) sum += expf(value[g] * scale - top);
  }
};

// classes int32 [Q] (BARRED: cannot win), rows [H, gy], columns [W, gx] -> out int32 [H, W].
// threshold > 0: pixels whose winner's probability is below it become `background`; `normaliser` [gy * gx] is then the
// log-sum-exp of all logits of each cell. log-sum-exp is convex, so interpolated it bounds a pixel's from above: where
// every winner of the tile passes with the bound, the sum over all queries is not needed.
template <class T>
__global__ void __launch_bounds__(THREADS, 1)
    separable_argmax(const T* __restrict__ scores, const int* __restrict__ classes, const float* __restrict__ rows,
                     const float* __restrict__ columns, const float* __restrict__ normaliser, int* __restrict__ out,
                     int queries, int gy, int gx, int height, int width, float scale, float threshold, int background) {
  DYNAMIC_SHARED(unsigned char, memory);
  Tile<T> tile(memory, scores, rows, columns, queries, gy, gx, height, width);

  float bar = -positive_infinity(), largest = 0.f;  // the largest of the queries' smallest scores
  if (queries > GROUP)
    for (int query = threadIdx.x; query < queries; query += THREADS)
      if (classes[query] != BARRED) {
        float smallest = positive_infinity();
        tile.touched_scores(query, [&](float score) {
          smallest = fminf(smallest, score);
          largest = fmaxf(largest, fabsf(score));
        });
        bar = fmaxf(bar, smallest);
      }
  bar = block_reduce<THREADS>(bar, Max{});
  bar -= MARGIN * block_reduce<THREADS>(largest, Max{});

  float best[PIXELS];
  int label[PIXELS];
#pragma unroll
  for (int p = 0; p < PIXELS; ++p) best[p] = -positive_infinity(), label[p] = BARRED;
  auto may_win = [&](int query) {
    if (classes[query] == BARRED) return false;
    float peak = -positive_infinity();
    if (queries > GROUP) tile.touched_scores(query, [&](float score) { peak = fmaxf(peak, score); });
    return queries <= GROUP || peak >= bar;
  };
  tile.walk(may_win, [&](const float(&value)[PIXELS][GROUP], const int* list, int size) {
#pragma unroll
    for (int g = 0; g < GROUP; ++g) {
      if (g >= size) continue;
      int of = classes[list[g]];
#pragma unroll
      for (int p = 0; p < PIXELS; ++p)
        if (value[p][g] > best[p] || (value[p][g] == best[p] && of < label[p])) best[p] = value[p][g], label[p] = of;
    }
  });

  if (threshold > 0.f) {
    bool passes = true;
#pragma unroll 1
    for (int p = 0; p < PIXELS; ++p) {
      if (!tile.inside(p)) continue;
      float bound = 0.f;
      for (int y = 0; y < tile.ny(); ++y) {
        float line = 0.f;
        for (int x = 0; x < tile.nx(); ++x)
          line += columns[int64_t(tile.x()) * gx + tile.cells_x[x]] * normaliser[tile.cells_y[y] * gx + tile.cells_x[x]];
        bound += rows[int64_t(tile.y(p)) * gy + tile.cells_y[y]] * line;
      }
      passes &= best[p] * scale - bound >= logf(threshold) + 1e-3f;
    }
    if (!__syncthreads_and(passes)) {
      LogSumExp total[PIXELS];
      tile.walk([](int) { return true; }, [&](const float(&value)[PIXELS][GROUP], const int*, int size) {
#pragma unroll
        for (int p = 0; p < PIXELS; ++p) total[p].add(value[p], size, scale);
      });
#pragma unroll
      for (int p = 0; p < PIXELS; ++p)
        if (expf(best[p] * scale - total[p].peak) / total[p].sum < threshold) label[p] = background;
    }
  }
#pragma unroll
  for (int p = 0; p < PIXELS; ++p)
    if (tile.inside(p)) out[int64_t(tile.y(p)) * width + tile.x()] = label[p];
}

// The K best classes of each pixel, ties to the lower one, in registers.
template <int K> struct Ranking {
  float value[K];
  int label[K];
  __device__ Ranking() {
#pragma unroll
    for (int i = 0; i < K; ++i) value[i] = -positive_infinity(), label[i] = BARRED;
  }
  __device__ void insert(float v, int l) {  // classes come in ascending order
    if (!(v > value[K - 1])) return;
    value[K - 1] = v, label[K - 1] = l;
#pragma unroll
    for (int i = K - 1; i > 0; --i)
      if (value[i] > value[i - 1]) {
        float swapped = value[i];
        int other = label[i];
        value[i] = value[i - 1], label[i] = label[i - 1];
        value[i - 1] = swapped, label[i - 1] = other;
      }
  }
};

// classes ascending int32 [Q], `empty`: the classes without a query, ascending -> labels int32 and probabilities fp32
// [K, H, W], best first; classes without a query follow with probability 0.
template <class T, int K>
__global__ void __launch_bounds__(THREADS, 1)
    separable_topk(const T* __restrict__ scores, const int* __restrict__ classes, const int* __restrict__ empty,
                   const float* __restrict__ rows, const float* __restrict__ columns, int* __restrict__ labels,
                   float* __restrict__ probabilities, int queries, int gy, int gx, int height, int width, float scale) {
  DYNAMIC_SHARED(unsigned char, memory);
  Tile<T> tile(memory, scores, rows, columns, queries, gy, gx, height, width);
  Ranking<K> ranking[PIXELS];
  LogSumExp total[PIXELS];
  float of_class[PIXELS];  // best value among the queries of the class that is being read
  int current = BARRED;
  tile.walk([](int) { return true; }, [&](const float(&value)[PIXELS][GROUP], const int* list, int size) {
#pragma unroll
    for (int p = 0; p < PIXELS; ++p) total[p].add(value[p], size, scale);
#pragma unroll
    for (int g = 0; g < GROUP; ++g) {
      if (g >= size) continue;
      int next = classes[list[g]];
#pragma unroll
      for (int p = 0; p < PIXELS; ++p) {
        if (next != current) {
          if (current != BARRED) ranking[p].insert(of_class[p], current);
          of_class[p] = value[p][g];
        } else {
          of_class[p] = fmaxf(of_class[p], value[p][g]);
        }
      }
      current = next;
    }
  });
  int64_t area = int64_t(height) * width;
#pragma unroll
  for (int p = 0; p < PIXELS; ++p) {
    ranking[p].insert(of_class[p], current);
    if (!tile.inside(p)) continue;
    int64_t at = int64_t(tile.y(p)) * width + tile.x();
    int found = 0;
#pragma unroll
    for (int i = 0; i < K; ++i) {
      bool used = ranking[p].label[i] != BARRED;
      found += used;
      labels[i * area + at] = used ? ranking[p].label[i] : empty[i - found];
      probabilities[i * area + at] = used ? expf(ranking[p].value[i] * scale - total[p].peak) / total[p].sum : 0.f;
    }
  }
}
