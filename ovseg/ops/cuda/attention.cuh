// Shared by the attention kernels: tiles of 16-bit values in shared memory, their fragments, and products of tiles.
//
// fp32 tensors come as sums of bf16 pieces, x = x0 + x1 (+ x2) with |x1| < 2^-8 |x|, |x2| < 2^-16 |x|, so that tensor
// cores multiply them too. A product of two of them is a list of products of pieces (PRODUCTS below), smallest first,
// because tensor cores truncate when they add to a larger sum:
//   1 term:  a0.b0                                      16-bit inputs, exact
//   3 terms: a1.b0 + a0.b1 + a0.b0                      leaves out 2^-16 of |a||b| (bound; typically a tenth of it)
//   6 terms: a2.b0 + a0.b2 + a1.b1 + a1.b0 + a0.b1 + a0.b0    leaves out 2^-24: as exact as fp32 arithmetic
// Where a comparison decides what is kept (a similarity with a limit) 6 terms are used, elsewhere 3.
#pragma once

#include "common.cuh"

constexpr int KEYS = 64;               // keys per tile
constexpr float LOG2E = 1.44269504f;   // exponentials are taken to the base 2
constexpr float LAZY = 8.f;            // a row's maximum is followed only once it has grown by a factor of 2^LAZY

// The 16-bit type that stands for T in products, and how many pieces of it hold a T.
template <class T> struct Storage {
  using Piece = T;
  static constexpr int PIECES = 1;
};
template <> struct Storage<float> {
  using Piece = __nv_bfloat16;
  static constexpr int PIECES = 2;
};

// Pieces of the left and right factor in term i of 6; a product with fewer terms starts at 6 - terms.
DEVICE int left_piece(int term) { return 0x001102 >> (4 * term) & 15; }
DEVICE int right_piece(int term) { return 0x010120 >> (4 * term) & 15; }

// Rows of a tile are padded by 16 bytes: the row length is an odd number of 16-byte units, so that the eight rows that
// ldmatrix reads at once lie in different banks.
template <int COLUMNS> __device__ constexpr int row_stride() { return COLUMNS + 8; }
template <int ROWS, int COLUMNS> __device__ constexpr int tile_bytes() { return ROWS * row_stride<COLUMNS>() * 2; }

// Asks for rows [first_row, + ROWS) and columns [first_column, + COLUMNS) of a row-major matrix of 16-bit values with
// `columns` columns (a multiple of 8); zeros from row `end_row` and column `columns` on. Arrives as cp_async16 says.
// Not unrolled: addresses kept for every copy would take registers that the accumulators need.
template <int ROWS, int COLUMNS, int THREADS, class T>
DEVICE void fetch_tile(T* tile, const T* matrix, int first_row, int end_row, int first_column, int columns) {
  constexpr int UNITS = COLUMNS / 8;
#pragma unroll 1
  for (int i = threadIdx.x; i < ROWS * UNITS; i += THREADS) {
    const int row = i / UNITS, column = i % UNITS * 8;
    const bool inside = first_row + row < end_row && first_column + column < columns;
    const int64_t offset = int64_t(first_row + row) * columns + first_column + column;
    cp_async16(tile + row * row_stride<COLUMNS>() + column, matrix + (inside ? offset : 0), inside);
  }
}

// Left factor: rows [row, + 16), columns [column, + 16) of a tile.
template <int COLUMNS, class T> DEVICE void load_a(uint32_t (&a)[4], const T* tile, int row, int column) {
  const int lane = lane_id();
  ldmatrix_x4(a, tile + (row + lane % 16) * row_stride<COLUMNS>() + column + lane / 16 * 8);
}

// Right factor from a tile whose rows are the factor's columns (keys): rows [key, + 16), columns [column, + 16).
// b[0..1] is the fragment of the first 8 keys, b[2..3] that of the others.
template <int COLUMNS, class T> DEVICE void load_b_of_keys(uint32_t (&b)[4], const T* tile, int key, int column) {
  const int lane = lane_id();
  ldmatrix_x4(b, tile + (key + lane / 16 * 8 + lane % 8) * row_stride<COLUMNS>() + column + lane / 8 % 2 * 8);
}

// Right factor from a tile as it lies (values): rows [row, + 16), columns [column, + 16); b as above, by columns.
template <int COLUMNS, class T> DEVICE void load_b_of_values(uint32_t (&b)[4], const T* tile, int row, int column) {
  const int lane = lane_id();
  ldmatrix_x4_transposed(b, tile + (row + lane % 16) * row_stride<COLUMNS>() + column + lane / 16 * 8);
}

// Two neighbouring products with the same left factor.
template <class T>
DEVICE void mma_pair(float (&first)[4], float (&second)[4], const uint32_t (&a)[4], const uint32_t (&b)[4]) {
  const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
  mma_m16n8k16<T>(first, a, b0);
  mma_m16n8k16<T>(second, a, b1);
}

// What rounding x to T leaves over.
template <class T> DEVICE float remainder_of(float x) { return x - to_float(from_float<T>(x)); }

// Over the four lanes that share a row of a fragment.
template <class Op> DEVICE float row_reduce(float x, Op op) {
  x = op(x, __shfl_xor_sync(ALL_LANES, x, 1));
  return op(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

// Two neighbouring columns to memory.
DEVICE void store2(float* to, float x, float y) { *reinterpret_cast<float2*>(to) = make_float2(x, y); }
template <class T> DEVICE void store2(T* to, float x, float y) { *reinterpret_cast<uint32_t*>(to) = pack2<T>(x, y); }

// The maximum that exponents of a row are taken against, after a tile whose largest exponent is `top`.
DEVICE float follow(float maximum, float top) { return top > maximum + LAZY ? top : maximum; }
// What earlier sums of that row are to be multiplied with.
DEVICE float decay(float before, float after) { return before == after ? 1.f : fast_exp2(before - after); }
