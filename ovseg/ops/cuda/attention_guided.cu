// Trident's aggregation along SAM's last attention (section 3.3): weights are SAM's attention probabilities, summed
// over the heads in which the values of the two cells are alike; they serve all token columns. See
// attention_wide.cuh for the tiling; here a tile's scores are computed head by head: first the cosine, of which one bit
// per pair remains, then the probability, for which `head_attention` has left the logarithm of each row's sum.
#include "attention_wide.cuh"

// out[i] = sum_j w_ij tokens[j] / sum_j w_ij,  w_ij = sum over heads h with cos(v_hi, v_hj) > limit_i of p_h(i, j).
// All cells are valid ones (they hold image), `count` of them on a grid of `valid_width` columns. T: type of queries,
// keys, values; TO: of the tokens and the output.
//
// queries, keys   [Storage<T>::PIECES, heads, count, depth]
// values          [3 for float, else 1, heads, count, depth]; inverse_length [heads, count]: 1 / |v|
// limits          [count]
// of_row          [heads, count, height], of_column [heads, count, width]: relative positions
// statistics      [heads, count]: log2 of the sum of exponentials over all keys
// tokens          [Storage<TO>::PIECES, count, columns]
// Grid: (ceil(count / 64), ceil(columns / value_columns<TILES>())). depth and columns are multiples of 8.
template <class T, class TO, int TILES, int STAGES>
__global__ void __launch_bounds__(THREADS, 1)
    guided_aggregation(const typename Storage<T>::Piece* queries, const typename Storage<T>::Piece* keys,
                       const typename Storage<T>::Piece* values, const float* inverse_length, const float* limits,
                       const float* of_row, const float* of_column, const float* statistics,
                       const typename Storage<TO>::Piece* tokens, TO* out, int heads, int count, int depth, int columns,
                       float scale, int height, int width, int valid_width) {
  using P = typename Storage<T>::Piece;
  using PO = typename Storage<TO>::Piece;
  constexpr int PIECES = Storage<TO>::PIECES, STAGE = stage_bytes<TILES>(), TILE = ROWS * row_stride<WIDTH>();
  constexpr int COSINE_TERMS = Storage<T>::PIECES == 1 ? 1 : 6, LOGIT_TERMS = Storage<T>::PIECES == 1 ? 1 : 3;
  DYNAMIC_SHARED(unsigned char, memory);
  PO* weights = reinterpret_cast<PO*>(memory + STAGES * STAGE);
  __shared__ __align__(16) float of_warp[ROWS][4];

  const Place at;
  const int first_row = blockIdx.x * ROWS, tiles = ceil_div(count, KEYS), chunks = ceil_div(depth, WIDTH);
  const int cosine_steps = COSINE_TERMS * chunks, head_steps = cosine_steps + LOGIT_TERMS * chunks;
  constexpr int value_steps = PIECES * (KEYS / SLAB);
  // Probabilities are small numbers: of 16-bit types fp16 would lose their digits. The sum is scaled alike.
  const float magnify = 32768.f / heads;

  Ring<STAGES, STAGE> ring(memory);
  int next_tile = 0, next_head = 0, next_step = 0;
  auto fetch = [&] {
    unsigned char* stage = ring.fill();
    if (next_tile < tiles) {
      if (next_head < heads) {
        const bool cosine = next_step < cosine_steps;
        const int step = cosine ? next_step : next_step - cosine_steps, column = step % chunks * WIDTH;
        const int term = 6 - (cosine ? COSINE_TERMS : LOGIT_TERMS) + step / chunks;
        const int left = (left_piece(term) * heads + next_head) * count;
        const int right = (right_piece(term) * heads + next_head) * count;
        P* to = reinterpret_cast<P*>(stage);
        const P *a = cosine ? values : queries, *b = cosine ? values : keys;
        fetch_tile<KEYS, WIDTH, THREADS>(to, b, right + next_tile * KEYS, right + count, column, depth);
        fetch_tile<ROWS, WIDTH, THREADS>(to + TILE, a, left + first_row, left + count, column, depth);
        if (++next_step == head_steps) next_step = 0, ++next_head;
      } else {
        fetch_slab<TILES>(reinterpret_cast<PO*>(stage), tokens, next_step, next_tile * KEYS, count, count, columns);
        if (++next_step == value_steps) next_step = 0, next_head = 0, ++next_tile;
      }
    }
    cp_async_commit();
  };
  auto scores_of = [&](float (&scores)[2][2][4], int steps) {
    for (int step = 0; step < steps; ++step) {
      const P* stage = reinterpret_cast<const P*>(ring.next());
      fetch();
      score_step(scores, stage + TILE, stage, at);
    }
  };
  for (int i = 0; i < STAGES - 1; ++i) fetch();

  float sums[4][TILES][4] = {}, total[4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    float weight[2][2][4] = {};
    for (int head = 0; head < heads; ++head) {
      const int64_t cells = int64_t(head) * count;
      unsigned alike = 0;  // bit 4 r + i: row r, key i of this thread
      {
        float cosine[2][2][4] = {};
        scores_of(cosine, cosine_steps);
#pragma unroll
        for (int bit = 0; bit < 16; ++bit) {
          const int r = bit / 4, i = bit % 4, key = tile * KEYS + at.key(i / 2, i);
          const int query = min(first_row + at.query(r), count - 1);
          const float length = inverse_length[cells + query] * inverse_length[cells + min(key, count - 1)];
          const bool kept = key < count && cosine[r / 2][i / 2][r % 2 * 2 + i % 2] * length > limits[query];
          alike |= unsigned(kept) << bit;
        }
      }
      float logits[2][2][4] = {};
      scores_of(logits, LOGIT_TERMS * chunks);
#pragma unroll
      for (int bit = 0; bit < 16; ++bit) {
        const int r = bit / 4, i = bit % 4, key = tile * KEYS + at.key(i / 2, i);
        if (!(alike >> bit & 1)) continue;
        const int64_t query = cells + min(first_row + at.query(r), count - 1);
        const int y = key / valid_width, x = key - y * valid_width;
        const float position = of_row[query * height + y] + of_column[query * width + x];
        const float logit = logits[r / 2][i / 2][r % 2 * 2 + i % 2] * scale + position;
        weight[r / 2][i / 2][r % 2 * 2 + i % 2] += magnify * fast_exp2(LOG2E * logit - statistics[query]);
      }
    }
#pragma unroll
    for (int i = 0; i < 16; ++i) total[i / 4] += weight[i / 8][i / 2 % 2][i / 4 % 2 * 2 + i % 2];
    put_weights<PIECES>(weights, weight, at);
    for (int step = 0; step < value_steps; ++step) {
      const PO* stage = reinterpret_cast<const PO*>(ring.next());
      fetch();
      slab_step<TILES, PIECES>(sums, weights, stage, step);
    }
  }

#pragma unroll
  for (int r = 0; r < 4; ++r) {
    total[r] = row_reduce(total[r], Sum());
    if (at.leads_row()) of_warp[at.query(r)][at.column / 16] = total[r];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = 8 * i + at.lane / 4, query = first_row + row;
    if (query >= count) continue;
    const float4 parts = *reinterpret_cast<const float4*>(of_warp[row]);
    const float factor = 1.f / (parts.x + parts.y + parts.z + parts.w);
#pragma unroll
    for (int n = 0; n < TILES; ++n) {
      const int column = blockIdx.y * value_columns<TILES>() + 8 * (warp_id() * TILES + n) + 2 * (at.lane % 4);
      const float* sum = &sums[i / 2][n][i % 2 * 2];
      if (column < columns) store2(out + int64_t(query) * columns + column, sum[0] * factor, sum[1] * factor);
    }
  }
}
