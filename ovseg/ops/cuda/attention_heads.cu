// Attention of one head at a time: self-self attention (SCLIP equation 6, NACLIP equation 5) and SAM's attention with
// decomposed relative positions (MViTv2 equation 4); also the row statistics that Trident's aggregation starts from.
//
// A block of 4 warps owns 64 queries of one head, each warp 16 of them and all keys, so that softmax needs no other
// warp and weights go from the accumulators of one product straight into the fragments of the next. Query tiles stay in
// shared memory; tiles of 64 keys and 64 values stream through a ring, one barrier per tile. Softmax is online: sums
// are rescaled when a row's maximum has grown much (`follow`).
#include "attention.cuh"

constexpr int ROWS = 64;
constexpr int WARPS = ROWS / 16;
constexpr int THREADS = 32 * WARPS;

enum Bias { NONE, NEIGHBOURS, POSITIONS };

// Added to the logits, in units of ln 2. Tokens are `prefix` ones without a place, then a grid row by row.
//   NEIGHBOURS  exp(-distance^2 / (2 sigma^2)) between grid cells; falloff = log2(e) / (2 sigma^2)
//   POSITIONS   table[query][row of the key] + table[query][height + column of the key], table in shared memory
template <int BIAS> struct LogitBias {
  int width, height, prefix;
  float falloff;
  const float* table;
  int stride;

  // Row and column of a grid cell, as floating point numbers: exact for up to 2^21 cells, as half a cell is far more
  // than the product's rounding error.
  DEVICE float row_of(int cell) const { return floorf((float(cell) + 0.5f) * (1.f / float(width))); }
  DEVICE float column_of(int cell, float row) const { return float(cell) - row * float(width); }

  DEVICE float operator()(int row, int query, int key) const {
    if (BIAS == NONE) return 0.f;
    const float y = row_of(key - prefix), x = column_of(key - prefix, y);
    if (BIAS == POSITIONS) return table[row * stride + int(y)] + table[row * stride + height + int(x)];
    if (query < prefix || key < prefix) return 0.f;
    const float query_y = row_of(query - prefix), dy = query_y - y, dx = column_of(query - prefix, query_y) - x;
    return LOG2E * fast_exp2(-falloff * (dy * dy + dx * dx));
  }
};

// What a query tile's table rows are apart in shared memory: 8 modulo 16, so that of the eight rows of a fragment,
// which are read together, at most two lie in the same banks.
DEVICE int table_stride(int entries) { return (entries + 7) / 16 * 16 + 8; }

// out = sum over rounds of softmax(sum over sources of scale queries . keys + bias) values.
//
// queries    [rounds, sources, PIECES, heads, rows, HEAD] (heads: of all samples), keys likewise with `count` rows
// values     [PIECES, heads, count, HEAD]; null: only statistics
// of_row     [heads, rows, height], of_column [heads, rows, width]: bias POSITIONS, before the factor log2 e
// out        [heads, rows, HEAD]; statistics [heads, rows]: log2 of the sum of exponentials, or null
// Grid: (ceil(rows / 64), heads). HEAD is a multiple of 16. fp32 is T = float: two pieces, three products.
template <class T, int HEAD, int BIAS, int STAGES>
__global__ void __launch_bounds__(THREADS, HEAD <= 64 ? 3 : 2)
    head_attention(const typename Storage<T>::Piece* queries, const typename Storage<T>::Piece* keys,
                   const typename Storage<T>::Piece* values, const float* of_row, const float* of_column, T* out,
                   float* statistics, int heads, int rows, int count, int rounds, int sources, float scale, int height,
                   int width, float falloff) {
  using P = typename Storage<T>::Piece;
  constexpr int PIECES = Storage<T>::PIECES, TERMS = PIECES == 1 ? 1 : 3, STRIDE = row_stride<HEAD>();
  constexpr int TILE = 64 * STRIDE, WIDE = HEAD / 8;
  DYNAMIC_SHARED(P, memory);
  const int lane = lane_id(), warp_row = warp_id() * 16, head = blockIdx.y, first_row = blockIdx.x * ROWS;
  const int slots = rounds * sources * PIECES;
  P* ring = memory + slots * TILE;
  float* table = reinterpret_cast<float*>(ring + STAGES * TILE);

  for (int slot = 0; slot < slots; ++slot) {
    const int start = (slot * heads + head) * rows;
    fetch_tile<ROWS, HEAD, THREADS>(memory + slot * TILE, queries, start + first_row, start + rows, 0, HEAD);
  }
  // These copies belong to the first group of the ring: its first step waits for them too.

  const int stride = table_stride(height + width);
  if (BIAS == POSITIONS) {
    for (int i = threadIdx.x; i < ROWS * (height + width); i += THREADS) {
      const int row = i / (height + width), entry = i % (height + width);
      if (first_row + row >= rows) break;
      const int64_t query = int64_t(head) * rows + first_row + row;
      const float x = entry < height ? of_row[query * height + entry] : of_column[query * width + entry - height];
      table[row * stride + entry] = LOG2E * x;
    }
  }
  const LogitBias<BIAS> bias{width, height, count - height * width, falloff, table, stride};

  const int tiles = ceil_div(count, KEYS), score_steps = sources * TERMS, steps = score_steps + (values ? PIECES : 0);
  int next_round = 0, next_tile = 0, next_step = 0, filled = 0;
  auto fetch = [&] {
    if (next_round < rounds) {
      const bool scores = next_step < score_steps;
      const int source = next_round * sources + next_step / TERMS, term = 6 - TERMS + next_step % TERMS;
      const int matrix = scores ? source * PIECES + right_piece(term) : next_step - score_steps;
      const int start = (matrix * heads + head) * count;
      const P* from = scores ? keys : values;
      fetch_tile<KEYS, HEAD, THREADS>(ring + filled * TILE, from, start + next_tile * KEYS, start + count, 0, HEAD);
      filled = filled + 1 == STAGES ? 0 : filled + 1;
      if (++next_step == steps) {
        next_step = 0;
        if (++next_tile == tiles) next_tile = 0, ++next_round;
      }
    }
    cp_async_commit();
  };
  int used = 0;
  auto next = [&] {
    cp_async_wait<STAGES - 2>();
    __syncthreads();
    const P* tile = ring + used * TILE;
    used = used + 1 == STAGES ? 0 : used + 1;
    fetch();
    return tile;
  };
  for (int i = 0; i < STAGES - 1; ++i) fetch();

  float result[WIDE][4] = {};
  const float factor = scale * LOG2E;
  const int first_query = warp_row + lane / 4;  // this lane's rows of the block: this one and the one 8 below
  for (int round = 0; round < rounds; ++round) {
    float sums[WIDE][4] = {}, maximum[2], total[2] = {};
    maximum[0] = maximum[1] = -positive_infinity();
    for (int tile = 0; tile < tiles; ++tile) {
      float weights[8][4] = {};  // [keys 8 n + 2 (lane % 4), + 1][rows]: first scores, then exponents, then weights
      for (int step = 0; step < score_steps; ++step) {
        const P* key_tile = next();
        const int slot = (round * sources + step / TERMS) * PIECES + left_piece(6 - TERMS + step % TERMS);
#pragma unroll
        for (int k = 0; k < HEAD; k += 16) {
          uint32_t a[4], b[4];
          load_a<HEAD>(a, memory + slot * TILE, warp_row, k);
#pragma unroll
          for (int n = 0; n < 8; n += 2) {
            load_b_of_keys<HEAD>(b, key_tile, 8 * n, k);
            mma_pair<P>(weights[n], weights[n + 1], a, b);
          }
        }
      }

      const bool last = tile == tiles - 1;  // the only tile that can reach beyond the keys
      float top[2] = {-positive_infinity(), -positive_infinity()};
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        float& x = weights[i / 4][i % 4];
        const int key = tile * KEYS + 8 * (i / 4) + 2 * (lane % 4) + i % 2, r = i / 2 % 2, row = first_query + 8 * r;
        // The bias of a key that is none would be read from beyond the table: it is asked for a key that is one.
        x = x * factor + bias(row, first_row + row, min(key, count - 1));
        if (last && key >= count) x = -positive_infinity();
        top[r] = fmaxf(top[r], x);
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float before = maximum[r];
        maximum[r] = follow(before, row_reduce(top[r], Max()));
        const float lost = decay(before, maximum[r]);
        if (lost != 1.f) {
          total[r] *= lost;
#pragma unroll
          for (int n = 0; n < WIDE; ++n) sums[n][2 * r] *= lost, sums[n][2 * r + 1] *= lost;
        }
#pragma unroll
        for (int i = 0; i < 16; ++i) {
          float& x = weights[i / 2][2 * r + i % 2];
          x = fast_exp2(x - maximum[r]);
          total[r] += x;
        }
      }
      if (!values) continue;

#pragma unroll 1
      for (int piece = 0; piece < PIECES; ++piece) {
        const P* value_tile = next();
        // Of the products of pieces, the one of two remainders is left out.
#pragma unroll 1
        for (int part = 0; part < PIECES - piece; ++part) {
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            uint32_t a[4], b[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              const float* pair = &weights[2 * k + i / 2][i % 2 * 2];
              a[i] = part ? pack2<P>(remainder_of<P>(pair[0]), remainder_of<P>(pair[1])) : pack2<P>(pair[0], pair[1]);
            }
#pragma unroll
            for (int n = 0; n < WIDE; n += 2) {
              load_b_of_values<HEAD>(b, value_tile, 16 * k, 8 * n);
              mma_pair<P>(sums[n], sums[n + 1], a, b);
            }
          }
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      total[r] = row_reduce(total[r], Sum());
      const float share = 1.f / total[r];
#pragma unroll
      for (int i = 0; i < 2 * WIDE; ++i) result[i / 2][2 * r + i % 2] += sums[i / 2][2 * r + i % 2] * share;
      const int query = first_row + first_query + 8 * r;
      const bool writes = statistics && lane % 4 == 0 && query < rows;
      if (writes) statistics[int64_t(head) * rows + query] = maximum[r] + log2f(total[r]);
    }
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int query = first_row + first_query + 8 * r;
    if (!values || query >= rows) continue;
    T* to = out + (int64_t(head) * rows + query) * HEAD + 2 * (lane % 4);
#pragma unroll
    for (int n = 0; n < WIDE; ++n) store2(to + 8 * n, result[n][2 * r], result[n][2 * r + 1]);
  }
}
