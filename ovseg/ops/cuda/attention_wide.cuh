// Attention whose value rows are wide (all heads side by side) and whose scores are shared by all columns.
//
// A block of 8 warps owns 64 queries and 64 * TILES value columns and walks over tiles of 64 keys:
//
//   scores   64 x 64, summed over depth in steps of 64. Warps stand 2 x 4, each has 32 queries x 16 keys in registers.
//   weights  the scores become weights and go to shared memory as 16-bit values: every warp needs all of them next.
//   values   64 queries x (8 * TILES) columns per warp, in registers for the whole run (up to 192 per thread), so that
//            a score tile is computed once for all columns. Steps of 16 keys.
//
// Everything that is read streams through one ring of shared memory buffers: per key tile first the score steps (a tile
// of keys and one of queries), then the value steps (a slab of 16 rows). A step waits for its buffer, passes one
// barrier, asks for what comes STAGES - 1 steps later (into the buffer that the barrier has just freed) and computes.
// TILES is even: fragments of values are loaded two at a time.
#pragma once

#include "attention.cuh"

constexpr int ROWS = 64;
constexpr int WIDTH = 64;  // depth of a score step
constexpr int WARPS = 8;
constexpr int THREADS = 32 * WARPS;
constexpr int SLAB = 16;  // value rows per step

template <int TILES> __device__ constexpr int value_columns() { return 8 * WARPS * TILES; }
template <int TILES> __device__ constexpr int stage_bytes() {
  constexpr int scores = 2 * tile_bytes<ROWS, WIDTH>(), values = tile_bytes<SLAB, value_columns<TILES>()>();
  return scores > values ? scores : values;
}

// This thread's part of a 64 x 64 score tile: element [m][n][e] belongs to query(2 * m + e / 2) and key(n, e).
struct Place {
  int lane, row, column;  // first query and key of the warp
  DEVICE Place() : lane(lane_id()), row(warp_id() / 4 * 32), column(warp_id() % 4 * 16) {}
  DEVICE int query(int r) const { return row + 8 * r + lane / 4; }
  DEVICE int key(int n, int e) const { return column + 8 * n + 2 * (lane % 4) + (e & 1); }
  DEVICE bool leads_row() const { return lane % 4 == 0; }
};

template <class T> DEVICE void score_step(float (&scores)[2][2][4], const T* queries, const T* keys, const Place& at) {
#pragma unroll
  for (int k = 0; k < WIDTH; k += 16) {
    uint32_t a[4], b[4];
    load_b_of_keys<WIDTH>(b, keys, at.column, k);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      load_a<WIDTH>(a, queries, at.row + 16 * m, k);
      mma_pair<T>(scores[m][0], scores[m][1], a, b);
    }
  }
}

// out[64 x 8 TILES] += weights[64 x 16, from column `key`] . slab[16 x 8 TILES, this warp's columns]
template <int TILES, class T>
DEVICE void value_step(float (&out)[4][TILES][4], const T* weights, int key, const T* slab) {
  uint32_t a[4][4], b[4];
#pragma unroll
  for (int m = 0; m < 4; ++m) load_a<KEYS>(a[m], weights, 16 * m, key);
#pragma unroll
  for (int n = 0; n < TILES; n += 2) {
    load_b_of_values<value_columns<TILES>()>(b, slab, 0, 8 * (warp_id() * TILES + n));
#pragma unroll
    for (int m = 0; m < 4; ++m) mma_pair<T>(out[m][n], out[m][n + 1], a[m], b);
  }
}

// The weights of a tile to shared memory: one tile of T, or with two PIECES another with what rounding left over.
template <int PIECES, class T> DEVICE void put_weights(T* tile, const float (&weights)[2][2][4], const Place& at) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int m = i / 4, n = i / 2 % 2, e = i % 2 * 2;
    const float x = weights[m][n][e], y = weights[m][n][e + 1];
    T* to = tile + at.query(2 * m + e / 2) * row_stride<KEYS>() + at.key(n, 0);
    store2(to, x, y);
    if (PIECES == 2) store2(to + ROWS * row_stride<KEYS>(), remainder_of<T>(x), remainder_of<T>(y));
  }
}

// The value steps of one key tile are numbered piece by piece: fetch of the slab, and the product with it. `first` is
// the tile's first row in the first piece, `end` the end of the sample there, `piece_rows` what pieces are apart.
template <int TILES, class T>
DEVICE void fetch_slab(T* stage, const T* values, int step, int first, int end, int piece_rows, int columns) {
  const int skip = step / 4 * piece_rows;
  fetch_tile<SLAB, value_columns<TILES>(), THREADS>(stage, values, first + skip + step % 4 * SLAB, end + skip,
                                                    blockIdx.y * value_columns<TILES>(), columns);
}
template <int TILES, int PIECES, class T>
DEVICE void slab_step(float (&out)[4][TILES][4], const T* weights, const T* stage, int step) {
  value_step<TILES>(out, weights, step % 4 * SLAB, stage);
  if (PIECES == 2 && step < 4) value_step<TILES>(out, weights + ROWS * row_stride<KEYS>(), step % 4 * SLAB, stage);
}

// A ring of STAGES buffers. Every thread first fills STAGES - 1 of them, then calls next() and fill() in turn, also
// when nothing is left to be read: cp.async counts groups, and one counter serves both ends.
template <int STAGES, int BYTES> struct Ring {
  unsigned char* base;
  int filled = 0;
  DEVICE explicit Ring(unsigned char* memory) : base(memory) {}
  DEVICE unsigned char* fill() {
    unsigned char* stage = base + filled * BYTES;
    filled = filled + 1 == STAGES ? 0 : filled + 1;
    return stage;
  }
  // The oldest buffer, complete for all threads; the one before it, which fill() gives next, has been read by all.
  DEVICE unsigned char* next() {
    cp_async_wait<STAGES - 2>();
    __syncthreads();
    return base + (filled + 1 == STAGES ? 0 : filled + 1) * BYTES;
  }
};
