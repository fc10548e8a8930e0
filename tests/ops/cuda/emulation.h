// CUDA C++ on the CPU, for tests: every thread of a block is a fiber, blocks run one after another.
//
// Modelled: barriers, warp shuffles (also width < 32) and votes, static and dynamic shared memory (dynamic shared memory
// starts as NaN), atomics, 16-bit storage types with their rounding, mma.m16n8k16 and ldmatrix with the lane layout that
// PTX documents, cp.async (bytes arrive at the wait, not before). A deadlock is reported. Threads run in ascending or
// descending order (`emu::S.backwards`): a missing barrier gives different results in the two. Dynamic shared memory ends
// at a page that nobody may touch: reading or writing beyond what the launch asked for is reported.
// Not modelled: memory bank conflicts, the order of additions inside a tensor core, races between blocks, occupancy.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <csetjmp>
#include <csignal>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static thread_local
#define __constant__ static const

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace emu {
extern "C" void emu_switch(void** save, void* load);
asm(".text\n.globl emu_switch\n.hidden emu_switch\nemu_switch:\n"
    " push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
    " mov %rsp,(%rdi); mov %rsi,%rsp\n"
    " pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n ret\n");

constexpr size_t STACK = 64 << 10;
constexpr size_t MAX_SHARED = 227 << 10;  // of sm_90 and sm_100

struct Barrier {
  unsigned expected = 0, arrived = 0, generation = 0;
};
struct Copy {
  void* to;
  const void* from;  // null: zeros
  size_t bytes;
};
struct Fiber {
  void* stack_pointer = nullptr;
  bool done = false;
  dim3 tid;
  unsigned linear = 0;
  std::vector<char> stack;
  std::vector<std::vector<Copy>> groups;  // committed cp.async groups, oldest first
  std::vector<Copy> open;
};
struct alignas(16) Slot {  // what a lane shows the others of its warp
  unsigned char bytes[32];
};
struct State {
  dim3 grid, block, bid;
  std::vector<Fiber> fibers;
  unsigned current = 0, alive = 0;
  uint64_t progress = 0;
  bool backwards = false;
  const char* error = nullptr;
  void* main = nullptr;
  Barrier block_barrier;
  std::vector<Barrier> warp_barrier;
  std::vector<Slot> slot;
  std::vector<int> votes;
  void (*call)(void*);
  void* body;
  size_t dynamic_bytes = 0;
};
inline thread_local State S;

// Memory whose last byte lies directly before a forbidden page; made once, for the largest launch there may be.
struct Arena {
  char* end;  // the forbidden page
  Arena() {
    const size_t page = sysconf(_SC_PAGESIZE), size = (MAX_SHARED + page - 1) / page * page;
    char* base = static_cast<char*>(
        mmap(nullptr, size + 16 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    end = base + size;
    mprotect(end, 16 * page, PROT_NONE);
  }
};
inline Arena& arena() {
  static thread_local Arena made;
  return made;
}
inline thread_local sigjmp_buf beyond;
inline void touched(int, siginfo_t* info, void*) {
  char* at = static_cast<char*>(info->si_addr);
  if (at < arena().end || at >= arena().end + (16 << 12)) {  // another fault: let it end the process as ever
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  siglongjmp(beyond, 1);
}
// While a launch runs, a touch of the forbidden page comes back to it; the handler has a stack of its own.
struct Watch {
  struct sigaction before;
  stack_t stack_before;
  std::vector<char> stack = std::vector<char>(64 << 10);
  Watch() {
    stack_t own{};
    own.ss_sp = stack.data();
    own.ss_size = stack.size();
    sigaltstack(&own, &stack_before);
    struct sigaction action {};
    action.sa_sigaction = touched;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &before);
  }
  ~Watch() {
    sigaction(SIGSEGV, &before, nullptr);
    sigaltstack(&stack_before, nullptr);
  }
};

inline Fiber& self() { return S.fibers[S.current]; }
inline unsigned lane() { return self().linear % 32; }
inline unsigned warp_start() { return self().linear / 32 * 32; }
inline unsigned warp_size() { return std::min<unsigned>(32, S.fibers.size() - warp_start()); }
inline void yield() { emu_switch(&self().stack_pointer, S.main); }
inline void release(Barrier& b) {
  b.arrived = 0;
  ++b.generation;
  ++S.progress;
}
inline void wait(Barrier& b) {
  unsigned generation = b.generation;
  if (++b.arrived == b.expected) release(b);
  else while (b.generation == generation) yield();
}
inline void leave(Barrier& b) {
  --b.expected;
  if (b.expected && b.arrived == b.expected) release(b);
}
inline void wait_warp() { wait(S.warp_barrier[self().linear / 32]); }
inline void entry() {
  S.call(S.body);
  Fiber& f = self();
  leave(S.block_barrier);
  leave(S.warp_barrier[f.linear / 32]);
  f.done = true;
  --S.alive;
  ++S.progress;
  for (;;) yield();
}
// Every lane shows `value`; `read(lane)` gives what another one showed. Returns read's result in each lane.
template <class T, class F> auto exchange(T value, F&& read) {
  static_assert(sizeof(T) <= sizeof(Slot));
  std::memcpy(&S.slot[self().linear], &value, sizeof(T));
  wait_warp();
  unsigned start = warp_start();
  auto result = read([start](unsigned lane) {
    T shown;
    std::memcpy(&shown, &S.slot[start + std::min(lane, warp_size() - 1)], sizeof(T));
    return shown;
  });
  wait_warp();
  return result;
}
template <class T> T from_lane(T value, unsigned source) {
  return exchange(value, [source](auto shown) { return shown(source); });
}
// Returns null, or what went wrong.
template <class F> const char* launch(dim3 grid, dim3 block, size_t dynamic_bytes, F body) {
  unsigned n = block.x * block.y * block.z;
  if (n == 0 || n > 1024) return "a block has 1 to 1024 threads";
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535) return "the grid is empty or too large";
  if (dynamic_bytes > MAX_SHARED) return "more dynamic shared memory than an sm_90 block may have";
  S.error = nullptr;
  S.grid = grid;
  S.block = block;
  S.call = [](void* f) { (*static_cast<F*>(f))(); };
  S.body = &body;
  S.fibers.resize(n);
  S.slot.resize(n);
  S.votes.resize(n);
  S.dynamic_bytes = (dynamic_bytes + 15) / 16 * 16;
  Watch watch;
  if (sigsetjmp(beyond, 1)) return "dynamic shared memory is read or written beyond what the launch asked for";
  for (auto& f : S.fibers) if (f.stack.empty()) f.stack.resize(STACK);
  for (unsigned bz = 0; bz < grid.z; ++bz) for (unsigned by = 0; by < grid.y; ++by) for (unsigned bx = 0; bx < grid.x; ++bx) {
    S.bid = dim3(bx, by, bz);
    S.alive = n;
    S.block_barrier = Barrier{n};
    S.warp_barrier.assign((n + 31) / 32, Barrier{32});
    if (n % 32) S.warp_barrier.back().expected = n % 32;
    std::fill(arena().end - S.dynamic_bytes, arena().end, char(0xff));
    for (unsigned i = 0; i < n; ++i) {
      Fiber& f = S.fibers[i];
      f.done = false;
      f.linear = i;
      f.tid = dim3(i % block.x, i / block.x % block.y, i / (block.x * block.y));
      f.groups.clear();
      f.open.clear();
      auto top = reinterpret_cast<uintptr_t>(f.stack.data() + STACK) & ~uintptr_t(15);
      void** s = reinterpret_cast<void**>(top) - 2;
      *s = reinterpret_cast<void*>(entry);
      f.stack_pointer = s - 6;
    }
    while (S.alive) {
      uint64_t before = S.progress;
      for (unsigned i = 0; i < n; ++i) {
        S.current = S.backwards ? n - 1 - i : i;
        if (!self().done) emu_switch(&S.main, self().stack_pointer);
      }
      if (S.error) return S.error;
      if (before == S.progress) return "deadlock: threads wait at a barrier, shuffle or vote that others never reach";
    }
  }
  return nullptr;
}
inline void* dynamic_shared() { return arena().end - S.dynamic_bytes; }
}  // namespace emu

#define DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(emu::dynamic_shared())
#define threadIdx (::emu::self().tid)
#define blockIdx (::emu::S.bid)
#define blockDim (::emu::S.block)
#define gridDim (::emu::S.grid)

// Barriers, shuffles, votes ------------------------------------------------------------------------------------------
inline void __syncthreads() { emu::wait(emu::S.block_barrier); }
inline int __syncthreads_count(int predicate) {
  emu::S.votes[emu::self().linear] = predicate != 0;
  __syncthreads();
  int count = 0;
  for (int vote : emu::S.votes) count += vote;
  __syncthreads();
  return count;
}
inline int __syncthreads_or(int predicate) { return __syncthreads_count(predicate) > 0; }
inline int __syncthreads_and(int predicate) { return __syncthreads_count(predicate) == int(emu::S.votes.size()); }
inline void __syncwarp(unsigned = ~0u) { emu::wait_warp(); }
inline void __threadfence() {}
inline void __threadfence_block() {}
template <class T> T __shfl_sync(unsigned, T v, int source, int width = 32) {
  return emu::from_lane(v, (emu::lane() & ~(width - 1)) + (source & (width - 1)));
}
template <class T> T __shfl_xor_sync(unsigned, T v, int mask, int width = 32) {
  unsigned other = emu::lane() ^ mask;
  return emu::from_lane(v, other / width > emu::lane() / width ? emu::lane() : other);
}
template <class T> T __shfl_down_sync(unsigned, T v, unsigned distance, int width = 32) {
  unsigned l = emu::lane();
  return emu::from_lane(v, l % width + distance < unsigned(width) ? l + distance : l);
}
template <class T> T __shfl_up_sync(unsigned, T v, unsigned distance, int width = 32) {
  unsigned l = emu::lane();
  return emu::from_lane(v, l % width >= distance ? l - distance : l);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return emu::exchange(int(predicate != 0), [mask](auto shown) {
    unsigned bits = 0;
    for (unsigned l = 0; l < emu::warp_size(); ++l) bits |= unsigned(shown(l)) << l;
    return bits & mask;
  });
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
template <class T> unsigned __match_any_sync(unsigned mask, T value) {
  return emu::exchange(value, [=](auto shown) {
    unsigned bits = 0;
    for (unsigned l = 0; l < emu::warp_size(); ++l) bits |= unsigned(shown(l) == value) << l;
    return bits & mask;
  });
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }

// Atomics: fibers switch only at barriers, so plain arithmetic is atomic ----------------------------------------------
template <class T> T emu_update(T* p, T value) { T old = *p; *p = value; return old; }
template <class T> T atomicAdd(T* p, T v) { return emu_update(p, T(*p + v)); }
template <class T> T atomicMax(T* p, T v) { return emu_update(p, std::max(*p, v)); }
template <class T> T atomicMin(T* p, T v) { return emu_update(p, std::min(*p, v)); }
template <class T> T atomicOr(T* p, T v) { return emu_update(p, T(*p | v)); }
template <class T> T atomicExch(T* p, T v) { return emu_update(p, v); }
template <class T> T atomicCAS(T* p, T expected, T v) { return emu_update(p, *p == expected ? v : *p); }

// Arithmetic -----------------------------------------------------------------------------------------------------------
using std::isnan;
using std::max;
using std::min;
template <class To, class From> To emu_bits(From x) { To r; static_assert(sizeof r == sizeof x); std::memcpy(&r, &x, sizeof r); return r; }
inline float __expf(float x) { return std::exp(x); }
inline float fast_exp2(float x) { return std::exp2(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }
inline int __float_as_int(float x) { return emu_bits<int>(x); }
inline float __int_as_float(int x) { return emu_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return emu_bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return emu_bits<float>(x); }
inline float saturate(float x) { return std::min(1.f, std::max(0.f, x)); }
template <class T> T __ldg(const T* p) { return *p; }

// Types ------------------------------------------------------------------------------------------------------------------
#define EMU_VECTORS(T, name)                                              \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                      \
  struct alignas(4 * sizeof(T)) name##4 { T x, y, z, w; };                \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }              \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTORS(float, float)
EMU_VECTORS(int, int)
EMU_VECTORS(unsigned, uint)
#undef EMU_VECTORS

struct __half { uint16_t bits; };
struct __nv_bfloat16 { uint16_t bits; };
struct alignas(4) __half2 { __half x, y; };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
inline float __half2float(__half x) { return float(emu_bits<_Float16>(x.bits)); }
inline __half __float2half_rn(float x) { return {emu_bits<uint16_t>(_Float16(x))}; }
inline __half __float2half(float x) { return __float2half_rn(x); }
inline float __bfloat162float(__nv_bfloat16 x) { return emu_bits<float>(uint32_t(x.bits) << 16); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  uint32_t bits = emu_bits<uint32_t>(x);
  if (std::isnan(x)) return {0x7fff};
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
inline __nv_bfloat16 __float2bfloat16(float x) { return __float2bfloat16_rn(x); }
inline __half2 __floats2half2_rn(float a, float b) { return {__float2half_rn(a), __float2half_rn(b)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) { return {__float2bfloat16_rn(a), __float2bfloat16_rn(b)}; }
inline float2 __half22float2(__half2 p) { return {__half2float(p.x), __half2float(p.y)}; }
inline float2 __bfloat1622float2(__nv_bfloat162 p) { return {__bfloat162float(p.x), __bfloat162float(p.y)}; }
inline float emu_float(__half x) { return __half2float(x); }
inline float emu_float(__nv_bfloat16 x) { return __bfloat162float(x); }

// Tensor cores and copies: the interface of common.cuh ---------------------------------------------------------------------
template <class T> void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Fragments { T a[4][2], b[2][2]; } mine;
  static_assert(sizeof(Fragments) == 24);
  std::memcpy(mine.a, a, 16);
  std::memcpy(mine.b, b, 8);
  unsigned group = emu::lane() / 4, thread = emu::lane() % 4;
  struct Out { float d[4]; };
  Out sums = emu::exchange(mine, [&](auto shown) {
    Out out;
    std::memcpy(out.d, d, sizeof out.d);
    Fragments rows[4], columns[2][4];
    for (unsigned t = 0; t < 4; ++t) {
      rows[t] = shown(group * 4 + t);
      for (unsigned j = 0; j < 2; ++j) columns[j][t] = shown((thread * 2 + j) * 4 + t);
    }
    for (unsigned half = 0; half < 2; ++half) for (unsigned t = 0; t < 4; ++t) for (unsigned e = 0; e < 2; ++e)  // k ascending
      for (unsigned i = 0; i < 2; ++i) for (unsigned j = 0; j < 2; ++j)
        out.d[i * 2 + j] += emu_float(rows[t].a[half * 2 + i][e]) * emu_float(columns[j][t].b[half][e]);
    return out;
  });
  std::memcpy(d, sums.d, sizeof sums.d);
}
inline void emu_ldmatrix(uint32_t (&r)[4], const void* row, bool transposed) {
  struct Out { uint32_t r[4]; };
  unsigned l = emu::lane();
  Out out = emu::exchange(row, [=](auto shown) {
    Out result;
    for (unsigned m = 0; m < 4; ++m) {
      uint16_t pair[2];
      for (unsigned e = 0; e < 2; ++e) {
        unsigned at = 2 * (l % 4) + e, other = l / 4;
        const auto* line = static_cast<const uint16_t*>(shown(m * 8 + (transposed ? at : other)));
        pair[e] = line[transposed ? other : at];
      }
      std::memcpy(&result.r[m], pair, 4);
    }
    return result;
  });
  std::memcpy(r, out.r, sizeof out.r);
}
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) { emu_ldmatrix(r, row, false); }
inline void ldmatrix_x4_transposed(uint32_t (&r)[4], const void* row) { emu_ldmatrix(r, row, true); }
inline void emu_copy(void* shared, const void* global, size_t bytes) {
  if ((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global)) % bytes)
    emu::S.error = "cp.async at an address that is not aligned to its size";
  else
    emu::self().open.push_back({shared, global, bytes});
}
inline void cp_async16(void* shared, const void* global, bool valid = true) {
  emu_copy(shared, valid ? global : nullptr, 16);
}
inline void cp_async4(void* shared, const void* global) { emu_copy(shared, global, 4); }
inline void cp_async_commit() {
  emu::self().groups.push_back(std::move(emu::self().open));
  emu::self().open.clear();
}
template <int PENDING> void cp_async_wait() {
  auto& groups = emu::self().groups;
  for (; groups.size() > PENDING; groups.erase(groups.begin()))
    for (const emu::Copy& copy : groups.front()) {
      if (copy.from) std::memcpy(copy.to, copy.from, copy.bytes);
      else std::memset(copy.to, 0, copy.bytes);
    }
}
