// Correlation attention (ProxyCLIP equations 5-7, CorrCLIP's scope, CLIP-DINOiser's pooling): scores are dot products
// of guide features, a keep rule drops pairs, all heads share the weights. See attention_wide.cuh for the tiling.
#include "attention_wide.cuh"

// Which pairs are kept, as ovseg.ops.reference defines it. A key beyond the last is never kept.
struct KeepRule {
  float limit;
  const int64_t* ids;  // region of each token of this sample; null: no regions
  const int64_t* unsegmented;
  int count;

  DEVICE bool operator()(float similarity, int query, int key) const {
    if (key >= count) return false;
    if (!ids) return similarity >= limit;
    const int64_t here = ids[query < count ? query : 0], there = ids[key];
    if (here == *unsegmented || there == *unsegmented) return similarity > limit;
    return here == there;
  }
};

// out[b, i] = sum_j weight_ij values[b, j]. TF: type of the feature pieces, TO: of values and output.
//
// features  [pieces, batch, count, depth], pieces 1 (terms 1) or 3 (terms 6)
// values    [Storage<TO>::PIECES, batch, count, columns]; own: the values themselves, [batch, count, columns]
// limits    [batch]; ids [batch, count] and unsegmented [batch], or null
// is_sum    0: weights softmax_j(scale S_ij); 1: scale S_ij / (1e-6 + sum_j scale S_ij)
// keep_own  1: a token that keeps no pair gets its own value; 0: what the formula gives (NaN; with is_sum 0)
// RESIDENT  the block's queries stay in shared memory for the whole run (terms must be 1): a third less to read
// Grid: (ceil(count / 64), ceil(columns / value_columns<TILES>()), batch). depth and columns are multiples of 8.
template <class TF, class TO, int TILES, int STAGES, bool RESIDENT>
__global__ void __launch_bounds__(THREADS, 1)
    correlation_attention(const TF* features, const typename Storage<TO>::Piece* values, const TO* own,
                          const float* limits, const int64_t* ids, const int64_t* unsegmented, TO* out, int batch,
                          int count, int depth, int columns, int terms, float scale, int is_sum, int keep_own) {
  using TV = typename Storage<TO>::Piece;
  constexpr int PIECES = Storage<TO>::PIECES, STAGE = stage_bytes<TILES>(), TILE = ROWS * row_stride<WIDTH>();
  DYNAMIC_SHARED(unsigned char, memory);
  TV* weights = reinterpret_cast<TV*>(memory + STAGES * STAGE);
  TF* queries = reinterpret_cast<TF*>(weights + PIECES * ROWS * row_stride<KEYS>());
  // Per row: a number from each of the four warps that share it; what exponents are taken against (one is read while
  // the other is written); what the sums so far, and at the end the output, are multiplied with; whether it is empty.
  __shared__ __align__(16) float of_warp[ROWS][4];
  __shared__ float maximum[2][ROWS];
  __shared__ float factor[ROWS];
  __shared__ bool alone[ROWS];
  __shared__ float totals[4][THREADS];  // this thread's sums of weights: four registers more for the accumulators

  const Place at;
  const int sample = blockIdx.z, first_row = blockIdx.x * ROWS;
  const int start = sample * count, piece_rows = batch * count;  // row of this sample, rows of a piece

  constexpr int value_steps = PIECES * (KEYS / SLAB);
  const int chunks = ceil_div(depth, WIDTH), score_steps = terms * chunks;
  const int tiles = ceil_div(count, KEYS);
  Ring<STAGES, STAGE> ring(memory);
  // What is needed in step `step` of key tile `tile`: its score steps count first, then its value steps.
  auto fetch = [&](int tile, int step) {
    unsigned char* stage = ring.fill();
    if (step >= score_steps + value_steps) step -= score_steps + value_steps, ++tile;
    if (tile < tiles && step < score_steps) {
      const int term = 6 - terms + step / chunks, column = step % chunks * WIDTH;
      const int left = left_piece(term) * piece_rows + start, right = right_piece(term) * piece_rows + start;
      TF* to = reinterpret_cast<TF*>(stage);
      fetch_tile<KEYS, WIDTH, THREADS>(to, features, right + tile * KEYS, right + count, column, depth);
      if (!RESIDENT) {
        fetch_tile<ROWS, WIDTH, THREADS>(to + TILE, features, left + first_row, left + count, column, depth);
      }
    } else if (tile < tiles) {
      TV* to = reinterpret_cast<TV*>(stage);
      fetch_slab<TILES>(to, values, step - score_steps, start + tile * KEYS, start + count, piece_rows, columns);
    }
    cp_async_commit();  // an empty group at the end keeps the count that Ring::next relies on
  };
  if (RESIDENT) {  // joins the first group of copies, which the first step waits for
    for (int i = 0; i < chunks; ++i) {
      TF* to = queries + i * TILE;
      fetch_tile<ROWS, WIDTH, THREADS>(to, features, start + first_row, start + count, i * WIDTH, depth);
    }
  }
  for (int i = 0; i < STAGES - 1; ++i) fetch(0, i);

  if (threadIdx.x < ROWS) maximum[0][threadIdx.x] = -positive_infinity();
  float sums[4][TILES][4] = {};
  for (int r = 0; r < 4; ++r) totals[r][threadIdx.x] = 0.f;
  for (int tile = 0; tile < tiles; ++tile) {
    float scores[2][2][4] = {};
    for (int step = 0; step < score_steps; ++step) {
      const TF* stage = reinterpret_cast<const TF*>(ring.next());
      fetch(tile, step + STAGES - 1);
      score_step(scores, RESIDENT ? queries + step * TILE : stage + TILE, stage, at);
    }

    // Scores to exponents (or plain weights), -inf where a pair is dropped; the largest of each row. For sums the
    // maximum only says whether the row keeps anything: 0, else -inf.
    const KeepRule keep{limits[sample], ids ? ids + start : nullptr, unsegmented + sample, count};
    float top[4];
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      top[r] = -positive_infinity();
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& x = scores[r / 2][i / 2][r % 2 * 2 + i % 2];
        const bool kept = keep(x, first_row + at.query(r), tile * KEYS + at.key(i / 2, i));
        x = !kept ? -positive_infinity() : is_sum ? x : x * (scale * LOG2E);
        top[r] = fmaxf(top[r], kept && is_sum ? 0.f : x);
      }
      top[r] = row_reduce(top[r], Max());
      if (at.leads_row()) of_warp[at.query(r)][at.column / 16] = top[r];
    }
    const bool any = __syncthreads_or(fmaxf(fmaxf(top[0], top[1]), fmaxf(top[2], top[3])) > -positive_infinity());
    if (any) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const float4 tops = *reinterpret_cast<const float4*>(of_warp[at.query(r)]);
        const float before = maximum[tile % 2][at.query(r)];
        const float after = follow(before, fmaxf(fmaxf(tops.x, tops.y), fmaxf(tops.z, tops.w)));
        const float lost = is_sum ? 1.f : decay(before, after);
        float total = totals[r][threadIdx.x] * lost;
        if (at.leads_row() && at.column == 0) maximum[(tile + 1) % 2][at.query(r)] = after, factor[at.query(r)] = lost;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& x = scores[r / 2][i / 2][r % 2 * 2 + i % 2];
          x = x == -positive_infinity() ? 0.f : is_sum ? x : fast_exp2(x - after);
          total += x;
        }
        totals[r][threadIdx.x] = total;
      }
      put_weights<PIECES>(weights, scores, at);
    } else if (threadIdx.x < ROWS) {
      maximum[(tile + 1) % 2][threadIdx.x] = maximum[tile % 2][threadIdx.x];
    }

    for (int step = 0; step < value_steps; ++step) {
      const TV* stage = reinterpret_cast<const TV*>(ring.next());
      fetch(tile, score_steps + step + STAGES - 1);
      if (!any) continue;  // no query of this block keeps any of these keys
      if (step == 0) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const float lost = factor[8 * i + at.lane / 4];
          if (lost == 1.f) continue;
#pragma unroll
          for (int n = 0; n < TILES; ++n) sums[i / 2][n][i % 2 * 2] *= lost, sums[i / 2][n][i % 2 * 2 + 1] *= lost;
        }
      }
      slab_step<TILES, PIECES>(sums, weights, stage, step);
    }
  }

  __syncthreads();  // everybody has read of_warp and factor
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const float total = row_reduce(totals[r][threadIdx.x], Sum());
    if (at.leads_row()) of_warp[at.query(r)][at.column / 16] = total;
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    if (!at.leads_row() || at.column != 0) continue;
    const float4 parts = *reinterpret_cast<const float4*>(of_warp[at.query(r)]);
    const float sum = parts.x + parts.y + parts.z + parts.w;
    factor[at.query(r)] = is_sum ? scale / (scale * sum + 1e-6f) : 1.f / sum;
    alone[at.query(r)] = keep_own && maximum[tiles % 2][at.query(r)] == -positive_infinity();
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = 8 * i + at.lane / 4, query = first_row + row;
    if (query >= count) continue;
#pragma unroll
    for (int n = 0; n < TILES; ++n) {
      const int column = blockIdx.y * value_columns<TILES>() + 8 * (warp_id() * TILES + n) + 2 * (at.lane % 4);
      if (column >= columns) continue;
      const int64_t offset = int64_t(start + query) * columns + column;
      const float* sum = &sums[i / 2][n][i % 2 * 2];
      if (alone[row]) store2(out + offset, to_float(own[offset]), to_float(own[offset + 1]));
      else store2(out + offset, sum[0] * factor[row], sum[1] * factor[row]);
    }
  }
}
