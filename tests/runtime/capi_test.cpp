// The C interface and the C++ one over it, in libsmelt.so: whole answers, and every misuse that a
// caller can make.
#include "smelt/smelt.h"
#include "smelt/smelt.hpp"
#include "support/fake_tensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <thread>

using namespace smelt::test;

extern "C" int smeltAnswerInC(const char *path, const char *prompt, char *answer, size_t capacity);

namespace {

std::string fakeAnswer(std::string_view prompt, size_t count) {
  std::vector<int32_t> history = fakeTokens(prompt);
  for (size_t i = 0; i < count; ++i)
    history.push_back(fakeNext(history));
  return fakeText(std::span(history).subspan(prompt.size()));
}

class CapiTest : public testing::Test {
protected:
  TemporaryFolder folder;
  std::string path = writeFake(folder);
};

TEST_F(CapiTest, AnswersInC) {
  char answer[11];
  EXPECT_EQ(smeltAnswerInC(path.c_str(), "HELLO", answer, sizeof answer), 0) << smelt_last_error();
  EXPECT_EQ(answer, fakeAnswer("HELLO", 10));
}

TEST_F(CapiTest, AnswersInCpp) {
  smelt::api::Model model(path);
  smelt::api::Session session(model, 64, 2, 2);
  smelt::api::GenerateOptions options(model);
  options.sampling.max_tokens = 9;
  std::string streamed;
  options.onText = [&](std::string_view text) {
    streamed += text;
    return true;
  };
  auto prompt = model.tokenize("HI THERE");
  EXPECT_EQ(prompt, fakeTokens("HI THERE"));
  auto result = session.generate(prompt, options, 1);
  EXPECT_EQ(streamed, fakeAnswer("HI THERE", 9));
  EXPECT_EQ(result.finish, SMELT_FINISH_MAX_TOKENS);
  EXPECT_EQ(result.answer_tokens, 9u);
  EXPECT_EQ(session.length(1), 16);
  EXPECT_EQ(fakeText(session.generatedTokens()), streamed);
  EXPECT_EQ(model.detokenize(prompt), "HI THERE");
  EXPECT_EQ(model.applyTemplate(std::vector<smelt::api::Message>{{"user", "A"}}),
            "USER: A / ASSISTANT: ");
  EXPECT_EQ(model.chat({{"user", "A"}}), fakeTokens("USER: A / ASSISTANT: "));

  session.truncate(1, 0);
  session.append(1, prompt);
  auto logits = session.logits(0);
  EXPECT_EQ(std::max_element(logits.begin(), logits.end()) - logits.begin(), fakeNext(prompt));
  EXPECT_TRUE(session.logits(1).empty());

  options.stop = {streamed.substr(4, 2)};
  options.onText = [](std::string_view) -> bool { throw std::runtime_error("mine"); };
  EXPECT_THROW(session.generate(prompt, options), std::runtime_error);
  EXPECT_THROW(smelt::api::Model("/no/such/file"), smelt::api::Error);
}

TEST_F(CapiTest, DraftsChangeNothing) {
  smelt::api::Model model(path), draft(path);
  smelt::api::Session session(model, 64, 1, 1, &draft);
  smelt::api::GenerateOptions options(model);
  options.sampling.max_tokens = 40;
  auto prompt = model.tokenize("      "); // the fake model goes on with spaces
  auto tried = session.generate(prompt, options);
  std::vector<int32_t> tokens = session.generatedTokens();
  EXPECT_GT(tried.drafted_tokens, 0u);
  EXPECT_LE(tried.accepted_tokens, tried.drafted_tokens);
  options.sampling.no_speculation = 1;
  EXPECT_EQ(session.generate(prompt, options).drafted_tokens, 0u);
  EXPECT_EQ(session.generatedTokens(), tokens);
}

TEST_F(CapiTest, SlotsGoToDiskAndBack) {
  smelt::api::Model model(path);
  std::string file = folder.path("slot");
  auto prompt = model.tokenize("A LONG SYSTEM PROMPT");
  {
    smelt::api::Session session(model, 64, 2, 1);
    session.append(1, prompt);
    session.save(1, file);
    EXPECT_EQ(smelt_slot_save(session.get(), 2, file.c_str()), SMELT_INVALID_ARGUMENT);
  }
  smelt::api::Session session(model, 64, 1, 1);
  session.load(0, file);
  EXPECT_EQ(session.length(0), int64_t(prompt.size()));
  prompt.push_back(5);
  smelt::api::GenerateOptions options(model);
  options.sampling.max_tokens = 1;
  EXPECT_EQ(session.generate(prompt, options).reused_tokens, prompt.size() - 1);
  EXPECT_EQ(session.generatedTokens()[0], fakeNext(prompt));
  EXPECT_EQ(smelt_slot_load(session.get(), 0, path.c_str()), SMELT_CORRUPT);
  EXPECT_EQ(smelt_slot_load(session.get(), 0, "/no/such/file"), SMELT_NOT_FOUND);
  EXPECT_EQ(smelt_slot_load(session.get(), 1, file.c_str()), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_slot_load(session.get(), 0, nullptr), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_slot_save(nullptr, 0, file.c_str()), SMELT_INVALID_ARGUMENT);
}

TEST_F(CapiTest, InfoAndVersions) {
  EXPECT_EQ(smelt_api_version(), SMELT_API_VERSION);
  EXPECT_STRNE(smelt_version(), "");
  smelt::api::Model model(path);
  smelt_model_info info = model.info();
  EXPECT_EQ(info.vocab_size, unsigned(fakeVocabulary));
  EXPECT_EQ(info.max_step_tokens, unsigned(fakeMaxTokens));
  EXPECT_EQ(info.has_tokenizer, 1);
  EXPECT_EQ(info.has_chat_template, 1);
  EXPECT_EQ(info.eos_tokens[0], -1);
  EXPECT_EQ(std::string(info.metadata, info.metadata_bytes), FakeModel().metadata);
  // A caller that was built with a shorter structure gets what it knows, and not a byte more.
  smelt_model_info small;
  std::memset(&small, 0x5a, sizeof small);
  small.struct_size = offsetof(smelt_model_info, hidden_size);
  EXPECT_EQ(smelt_model_get_info(model.get(), &small), SMELT_OK);
  EXPECT_EQ(small.vocab_size, unsigned(fakeVocabulary));
  EXPECT_EQ(small.hidden_size, 0x5a5a5a5au);
}

TEST_F(CapiTest, MisuseIsAStatus) {
  smelt_model *model = nullptr;
  smelt_session *session = nullptr;
  size_t needed = 0;
  int32_t token = 1;
  EXPECT_EQ(smelt_model_open(nullptr, nullptr, &model), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_model_open(path.c_str(), nullptr, nullptr), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_model_open("/no/such/file", nullptr, &model), SMELT_NOT_FOUND);
  EXPECT_NE(std::string(smelt_last_error()).find("/no/such/file"), std::string::npos);
  EXPECT_EQ(model, nullptr);
  smelt_model_options wild = {~size_t(0), nullptr};
  EXPECT_EQ(smelt_model_open(path.c_str(), &wild, &model), SMELT_INVALID_ARGUMENT);
  smelt_model_options target = {sizeof target, "no-such-cpu"};
  EXPECT_EQ(smelt_model_open(path.c_str(), &target, &model), SMELT_INVALID_ARGUMENT);
  ASSERT_EQ(smelt_model_open(path.c_str(), nullptr, &model), SMELT_OK);

  EXPECT_EQ(smelt_model_get_info(model, nullptr), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_model_get_info(nullptr, nullptr), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_tokenize(nullptr, "A", 1, 0, nullptr, 0, &needed), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_tokenize(model, nullptr, 1, 0, nullptr, 0, &needed), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_tokenize(model, "A", 1, 99, nullptr, 0, &needed), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_tokenize(model, "A", 1, 0, nullptr, 0, nullptr), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_tokenize(model, "ABC", 3, 0, &token, 1, &needed), SMELT_BUFFER_TOO_SMALL);
  EXPECT_EQ(needed, 3u);
  EXPECT_EQ(smelt_detokenize(model, nullptr, 1, nullptr, 0, &needed), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_detokenize(model, &token, 1, nullptr, 0, &needed), SMELT_BUFFER_TOO_SMALL);
  smelt_message message = {"user", nullptr};
  EXPECT_EQ(smelt_apply_chat_template(model, &message, 1, 1, nullptr, 0, &needed),
            SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_apply_chat_template(model, nullptr, 1, 1, nullptr, 0, &needed),
            SMELT_INVALID_ARGUMENT);

  EXPECT_EQ(smelt_session_create(nullptr, nullptr, &session), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_session_create(model, nullptr, nullptr), SMELT_INVALID_ARGUMENT);
  smelt_session_options options = SMELT_SESSION_OPTIONS_INIT;
  options.context = 1 << 20;
  EXPECT_EQ(smelt_session_create(model, &options, &session), SMELT_INVALID_ARGUMENT);
  options.context = 16;
  options.threads = 1;
  options.device = "abacus";
  EXPECT_EQ(smelt_session_create(model, &options, &session), SMELT_INVALID_ARGUMENT);
  EXPECT_NE(std::string(smelt_last_error()).find("unknown device 'abacus'"), std::string::npos);
  options.device = "vulkan:0";
  EXPECT_EQ(smelt_session_create(model, &options, &session), SMELT_UNSUPPORTED);
  EXPECT_NE(std::string(smelt_last_error()).find("holds no code for vulkan"), std::string::npos);
  options.device = "auto"; // the CPU, for which alone it holds code
  options.gpu_layers = 1;
  ASSERT_EQ(smelt_session_create(model, &options, &session), SMELT_OK);

  smelt_token tokens[100] = {};
  int32_t row = 0;
  EXPECT_EQ(smelt_step(nullptr, tokens, 1, nullptr, 0), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_step(session, nullptr, 1, nullptr, 0), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_step(session, tokens, 0, nullptr, 0), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_step(session, tokens, 100, nullptr, 0), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_step(session, tokens, ~size_t(0), nullptr, 0), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_step(session, tokens, 1, nullptr, 1), SMELT_INVALID_ARGUMENT);
  int32_t types[2] = {0, 1};
  EXPECT_EQ(smelt_step_types(session, tokens, types + 1, 1, nullptr, 0), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_logits(session, 0), nullptr);
  EXPECT_EQ(smelt_logits(nullptr, 0), nullptr);
  EXPECT_EQ(smelt_step_types(session, tokens, types, 1, &row, 1), SMELT_OK);
  EXPECT_NE(smelt_logits(session, 0), nullptr);
  EXPECT_EQ(smelt_append(session, 0, nullptr, 1), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_append(session, 3, &token, 1), SMELT_INVALID_ARGUMENT);
  std::vector<int32_t> many(50, 1);
  EXPECT_EQ(smelt_append(session, 0, many.data(), many.size()), SMELT_EXHAUSTED);
  EXPECT_EQ(smelt_slot_length(session, 0), 1);
  EXPECT_EQ(smelt_slot_length(session, 1), -1);
  EXPECT_EQ(smelt_truncate(session, 0, 9), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_generate(session, 0, nullptr, 0, nullptr, nullptr), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_generate(nullptr, 0, &token, 1, nullptr, nullptr), SMELT_INVALID_ARGUMENT);
  smelt_generate_options generate = SMELT_GENERATE_OPTIONS_INIT;
  generate.stop_count = 1;
  EXPECT_EQ(smelt_generate(session, 0, &token, 1, &generate, nullptr), SMELT_INVALID_ARGUMENT);
  generate.stop_count = 0;
  generate.struct_size = 0;
  EXPECT_EQ(smelt_generate(session, 0, &token, 1, &generate, nullptr), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_generate(session, 0, &token, 1, nullptr, nullptr), SMELT_OK);
  EXPECT_EQ(smelt_generated_tokens(session, nullptr, 0, &needed), SMELT_BUFFER_TOO_SMALL);
  EXPECT_EQ(smelt_generated_tokens(session, &token, 1, nullptr), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_generated_tokens(nullptr, &token, 1, &needed), SMELT_INVALID_ARGUMENT);
  smelt_cancel(session);
  smelt_cancel(nullptr);
  smelt_session_free(session);
  smelt_session_free(nullptr);
  smelt_model_close(model);
  smelt_model_close(nullptr);
  for (int status = -1; status < 10; ++status)
    EXPECT_STRNE(smelt_status_name(status), "");
}

TEST_F(CapiTest, GraphsRunNamedTensors) {
  EXPECT_EQ(smelt::api::Model(path).info().has_graph, 0);
  EXPECT_THROW(smelt::api::Graph{smelt::api::Model(path)}, smelt::api::Error);
  smelt::api::Model model(writeFake(folder, makeTensorDecoder));
  EXPECT_EQ(model.info().has_graph, 1);
  smelt::api::Graph graph(model, 1);
  auto inputs = graph.inputs(), outputs = graph.outputs();
  ASSERT_EQ(inputs.size(), 4u);
  EXPECT_STREQ(inputs[3].name, "past");
  EXPECT_EQ(inputs[3].role, SMELT_ROLE_STATE);
  EXPECT_EQ(inputs[3].partner, 1);
  EXPECT_EQ(inputs[3].grow_axis, 1);
  EXPECT_EQ(inputs[2].type, SMELT_I32);
  EXPECT_EQ(inputs[2].partner, -1);
  ASSERT_EQ(outputs.size(), 2u);
  EXPECT_EQ(outputs[0].rank, 3u);
  EXPECT_EQ(outputs[0].dims[2], fakeVocabulary);
  EXPECT_EQ(outputs[0].dims[1], -1);

  // Two sequences, one with padding on the left; then a token for each.
  std::vector<int64_t> ids = {5, 6, 7, 0, 8, 9}, mask = {1, 1, 1, 0, 1, 1};
  std::vector<int32_t> positions = {0, 1, 2, 0, 0, 1};
  graph.run(std::vector<smelt::api::Graph::Tensor>{
      {"past", SMELT_F32, {2, 0}, nullptr},
      {"attention_mask", SMELT_I64, {2, 3}, mask.data()},
      {"input_ids", SMELT_I64, {2, 3}, ids.data()},
      {"position_ids", SMELT_I32, {2, 3}, positions.data()}});
  auto best = [&](size_t row) {
    smelt_tensor logits = graph.result(0);
    auto *at = static_cast<const float *>(logits.data) + row * fakeVocabulary;
    return int32_t(std::max_element(at, at + fakeVocabulary) - at);
  };
  EXPECT_STREQ(graph.result(0).name, "logits");
  EXPECT_EQ(graph.result(0).dims[0], 2);
  EXPECT_EQ(best(2), fakeNext(std::vector<int32_t>{5, 6, 7}));
  EXPECT_EQ(best(5), fakeNext(std::vector<int32_t>{8, 9}));
  smelt_tensor present = graph.result(1);
  EXPECT_EQ(present.dims[1], 3);
  ids = {1, 2};
  mask = {1, 1, 1, 1, 0, 1, 1, 1};
  positions = {3, 2};
  graph.run(std::vector<smelt::api::Graph::Tensor>{
      {"past", present.type, {present.dims, present.dims + present.rank}, present.data},
      {"attention_mask", SMELT_I64, {2, 4}, mask.data()},
      {"input_ids", SMELT_I64, {2, 1}, ids.data()},
      {"position_ids", SMELT_I32, {2, 1}, positions.data()}});
  EXPECT_EQ(best(0), fakeNext(std::vector<int32_t>{5, 6, 7, 1}));
  EXPECT_EQ(best(1), fakeNext(std::vector<int32_t>{8, 9, 2}));

  // The same artifact answers text.
  smelt::api::Session session(model, 0, 1, 1);
  session.append(0, fakeTokens("HELLO"));
  auto logits = session.logits(0);
  EXPECT_EQ(std::max_element(logits.begin(), logits.end()) - logits.begin(),
            fakeNext(fakeTokens("HELLO")));
}

TEST_F(CapiTest, GraphMisuseIsAStatus) {
  smelt::api::Model model(writeFake(folder, makeTensorDecoder));
  smelt_graph *graph = nullptr;
  EXPECT_EQ(smelt_graph_create(nullptr, nullptr, &graph), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_graph_create(model.get(), nullptr, nullptr), SMELT_INVALID_ARGUMENT);
  smelt_graph_options options = SMELT_GRAPH_OPTIONS_INIT;
  options.threads = 1;
  options.memory_limit = 4096;
  ASSERT_EQ(smelt_graph_create(model.get(), &options, &graph), SMELT_OK);
  EXPECT_EQ(smelt_graph_input_count(nullptr), 0u);
  EXPECT_EQ(smelt_graph_output_count(nullptr), 0u);
  smelt_port port = SMELT_PORT_INIT;
  EXPECT_EQ(smelt_graph_input(graph, 4, &port), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_graph_output(graph, 2, &port), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_graph_input(graph, 0, nullptr), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_graph_input(nullptr, 0, &port), SMELT_INVALID_ARGUMENT);
  port.struct_size = 0;
  EXPECT_EQ(smelt_graph_input(graph, 0, &port), SMELT_INVALID_ARGUMENT);
  smelt_tensor result = {};
  EXPECT_EQ(smelt_graph_result(graph, 0, &result), SMELT_NOT_FOUND);
  EXPECT_EQ(smelt_graph_result(graph, 2, &result), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_graph_result(graph, 0, nullptr), SMELT_INVALID_ARGUMENT);

  std::vector<int64_t> numbers(300, 1);
  std::vector<smelt_tensor> good = {{"input_ids", SMELT_I64, 2, {1, 1}, numbers.data()},
                                    {"attention_mask", SMELT_I64, 2, {1, 1}, numbers.data()},
                                    {"position_ids", SMELT_I32, 2, {1, 1}, nullptr},
                                    {"past", SMELT_F32, 2, {1, 0}, nullptr}};
  int32_t zero = 0;
  good[2].data = &zero;
  auto run = [&](size_t index, const std::function<void(smelt_tensor &)> &change) {
    std::vector<smelt_tensor> tensors = good;
    change(tensors[index]);
    return smelt_graph_run(graph, tensors.data(), tensors.size());
  };
  EXPECT_EQ(run(0, [](smelt_tensor &) {}), SMELT_OK) << smelt_last_error();
  EXPECT_EQ(run(0, [](smelt_tensor &t) { t.name = nullptr; }), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(run(0, [](smelt_tensor &t) { t.name = "ids"; }), SMELT_NOT_FOUND);
  EXPECT_EQ(run(0, [](smelt_tensor &t) { t.name = "attention_mask"; }), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(run(0, [](smelt_tensor &t) { t.type = smelt_type(7); }), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(run(0, [](smelt_tensor &t) { t.rank = 9; }), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(run(0, [](smelt_tensor &t) { t.data = nullptr; }), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(run(0, [](smelt_tensor &t) { t.data = (const char *)t.data + 1; }),
            SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(run(0, [](smelt_tensor &t) { t.dims[1] = -1; }), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_graph_run(graph, good.data(), 3), SMELT_INVALID_ARGUMENT);
  EXPECT_NE(std::string(smelt_last_error()).find("'past' is not given"), std::string::npos);
  EXPECT_EQ(smelt_graph_run(graph, nullptr, 4), SMELT_INVALID_ARGUMENT);
  EXPECT_EQ(smelt_graph_run(nullptr, good.data(), 4), SMELT_INVALID_ARGUMENT);
  // 300 ids need more than the 4096 bytes that the graph may have.
  EXPECT_EQ(run(0, [](smelt_tensor &t) { t.dims[1] = 300; }), SMELT_INVALID_ARGUMENT);
  std::vector<int32_t> positions(300);
  std::iota(positions.begin(), positions.end(), 0);
  good[2].data = positions.data();
  good[1].dims[1] = good[2].dims[1] = 300;
  EXPECT_EQ(run(0, [](smelt_tensor &t) { t.dims[1] = 300; }), SMELT_EXHAUSTED)
      << smelt_last_error();
  EXPECT_EQ(smelt_graph_result(graph, 0, &result), SMELT_OK);
  EXPECT_EQ(result.dims[1], 1) << "of the last run that succeeded";
  smelt_graph_free(graph);
  smelt_graph_free(nullptr);
}

TEST_F(CapiTest, CancelledFromAnotherThread) {
  smelt::api::Model model(path);
  smelt::api::Session session(model, 0, 1, 2);
  smelt::api::GenerateOptions options(model);
  std::atomic<bool> started{false};
  options.onText = [&](std::string_view) {
    started = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return true;
  };
  std::thread other([&] {
    while (!started)
      std::this_thread::yield();
    session.cancel();
  });
  auto result = session.generate(model.tokenize("HELLO"), options);
  other.join();
  EXPECT_EQ(result.finish, SMELT_FINISH_CANCELLED);
}

} // namespace
