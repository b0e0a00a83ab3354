// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cuda/blas_lt.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <algorithm>

#include "common/status.h"

namespace conclave::engine::cuda {
namespace {

constexpr char kLibrary[] = "libcublasLt.so.13";
constexpr char kToolkitLibrary[] = "/usr/local/cuda/lib64/libcublasLt.so.13";
static_assert(CUDART_VERSION / 1000 == 13, "the library's name follows the toolkit's major version");
constexpr size_t kPlansMax = 4096;

uint32_t AlignmentOf(int64_t bytes) {
  uint32_t alignment = 256;
  while (bytes % alignment != 0) alignment /= 2;
  return alignment;
}

absl::Status BlasStatus(cublasStatus_t status, std::string_view doing) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return Internal("cuBLASLt error {} while {}", static_cast<int>(status), doing);
}

}  // namespace

struct BlasLt::Api {
  void* library = nullptr;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
#define CONCLAVE_BLAS_FUNCTION(name) decltype(&::cublasLt##name) name = nullptr
  CONCLAVE_BLAS_FUNCTION(Create);
  CONCLAVE_BLAS_FUNCTION(Destroy);
  CONCLAVE_BLAS_FUNCTION(Matmul);
  CONCLAVE_BLAS_FUNCTION(MatmulDescCreate);
  CONCLAVE_BLAS_FUNCTION(MatmulDescDestroy);
  CONCLAVE_BLAS_FUNCTION(MatmulDescSetAttribute);
  CONCLAVE_BLAS_FUNCTION(MatrixLayoutCreate);
  CONCLAVE_BLAS_FUNCTION(MatrixLayoutDestroy);
  CONCLAVE_BLAS_FUNCTION(MatmulPreferenceCreate);
  CONCLAVE_BLAS_FUNCTION(MatmulPreferenceDestroy);
  CONCLAVE_BLAS_FUNCTION(MatmulPreferenceSetAttribute);
  CONCLAVE_BLAS_FUNCTION(MatmulAlgoGetHeuristic);
#undef CONCLAVE_BLAS_FUNCTION

  ~Api() {
    if (preference != nullptr) MatmulPreferenceDestroy(preference);
    if (handle != nullptr) Destroy(handle);
    // The library stays loaded: unloading it would tear down state that the driver still refers to.
  }
};

struct BlasLt::Plan {
  const Api* api;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;
  cublasLtMatmulAlgo_t algorithm = {};
  explicit Plan(const Api* of) : api(of) {}
  ~Plan() {
    if (operation != nullptr) api->MatmulDescDestroy(operation);
    for (cublasLtMatrixLayout_t layout : {w, x, y}) {
      if (layout != nullptr) api->MatrixLayoutDestroy(layout);
    }
  }
};

BlasLt::BlasLt(std::byte* workspace) : api_(std::make_unique<Api>()), workspace_(workspace) {}
BlasLt::~BlasLt() { plans_.clear(); }

absl::StatusOr<std::unique_ptr<BlasLt>> BlasLt::Load(std::byte* workspace) {
  std::unique_ptr<BlasLt> blas(new BlasLt(workspace));
  Api& api = *blas->api_;
  api.library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (api.library == nullptr) api.library = dlopen(kToolkitLibrary, RTLD_NOW | RTLD_LOCAL);
  if (api.library == nullptr) {
    return FailedPrecondition(
        "the CUDA backend needs {} ({}): install the CUDA 13 libraries, or name their folder in LD_LIBRARY_PATH",
        kLibrary, dlerror());
  }
  const char* missing = nullptr;
  const auto bind = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(api.library, name));
    if (function == nullptr) missing = name;
  };
  bind(api.Create, "cublasLtCreate");
  bind(api.Destroy, "cublasLtDestroy");
  bind(api.Matmul, "cublasLtMatmul");
  bind(api.MatmulDescCreate, "cublasLtMatmulDescCreate");
  bind(api.MatmulDescDestroy, "cublasLtMatmulDescDestroy");
  bind(api.MatmulDescSetAttribute, "cublasLtMatmulDescSetAttribute");
  bind(api.MatrixLayoutCreate, "cublasLtMatrixLayoutCreate");
  bind(api.MatrixLayoutDestroy, "cublasLtMatrixLayoutDestroy");
  bind(api.MatmulPreferenceCreate, "cublasLtMatmulPreferenceCreate");
  bind(api.MatmulPreferenceDestroy, "cublasLtMatmulPreferenceDestroy");
  bind(api.MatmulPreferenceSetAttribute, "cublasLtMatmulPreferenceSetAttribute");
  bind(api.MatmulAlgoGetHeuristic, "cublasLtMatmulAlgoGetHeuristic");
  if (missing != nullptr) return FailedPrecondition("{} has no function {}", kLibrary, missing);
  RETURN_IF_ERROR(BlasStatus(api.Create(&api.handle), "starting the library"));
  RETURN_IF_ERROR(BlasStatus(api.MatmulPreferenceCreate(&api.preference), "starting the library"));
  const auto bytes = static_cast<uint64_t>(kWorkspaceBytes);
  RETURN_IF_ERROR(BlasStatus(
      api.MatmulPreferenceSetAttribute(api.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes)),
      "starting the library"));
  return blas;
}

absl::StatusOr<BlasLt::Plan*> BlasLt::PlanFor(const BlasProduct& p) {
  // The library sees columns: y^T[N, M] = w[N, K] x^T[K, M], w given transposed.
  const uint32_t y_alignment =
      std::min(AlignmentOf(static_cast<int64_t>(reinterpret_cast<uintptr_t>(p.y))), AlignmentOf(p.y_stride * 4));
  const Key key{p.m, p.n, p.k, p.y_stride, p.x_stride, p.w_stride, y_alignment};
  if (const auto it = plans_.find(key); it != plans_.end()) return it->second.get();
  if (plans_.size() >= kPlansMax) plans_.clear();
  auto plan = std::make_unique<Plan>(api_.get());
  const cublasOperation_t transposed = CUBLAS_OP_T;
  RETURN_IF_ERROR(BlasStatus(api_->MatmulDescCreate(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "planning"));
  RETURN_IF_ERROR(BlasStatus(
      api_->MatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)),
      "planning"));
  const auto u = [](int64_t v) { return static_cast<uint64_t>(v); };
  RETURN_IF_ERROR(BlasStatus(api_->MatrixLayoutCreate(&plan->w, CUDA_R_16BF, u(p.k), u(p.n), p.w_stride), "planning"));
  RETURN_IF_ERROR(BlasStatus(api_->MatrixLayoutCreate(&plan->x, CUDA_R_16BF, u(p.k), u(p.m), p.x_stride), "planning"));
  RETURN_IF_ERROR(BlasStatus(api_->MatrixLayoutCreate(&plan->y, CUDA_R_32F, u(p.n), u(p.m), p.y_stride), "planning"));
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    RETURN_IF_ERROR(
        BlasStatus(api_->MatmulPreferenceSetAttribute(api_->preference, attribute, &y_alignment, sizeof(y_alignment)),
                   "planning"));
  }
  cublasLtMatmulHeuristicResult_t found = {};
  int count = 0;
  const cublasStatus_t status = api_->MatmulAlgoGetHeuristic(api_->handle, plan->operation, plan->w, plan->x, plan->y,
                                                             plan->y, api_->preference, 1, &found, &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || count == 0) {
    return NotFound("cuBLASLt has no algorithm for {} x {} x {}", p.m, p.n, p.k);
  }
  RETURN_IF_ERROR(BlasStatus(status, "choosing an algorithm"));
  plan->algorithm = found.algo;
  return plans_.emplace(key, std::move(plan)).first->second.get();
}

absl::Status BlasLt::Multiply(const BlasProduct& p, cudaStream_t stream) {
  ASSIGN_OR_RETURN(Plan * plan, PlanFor(p));
  const float alpha = 1, beta = p.add ? 1.0f : 0.0f;
  return BlasStatus(
      api_->Matmul(api_->handle, plan->operation, &alpha, p.w, plan->w, p.x, plan->x, &beta, p.y, plan->y, p.y, plan->y,
                   &plan->algorithm, workspace_, static_cast<size_t>(kWorkspaceBytes), stream),
      "multiplying");
}

}  // namespace conclave::engine::cuda
