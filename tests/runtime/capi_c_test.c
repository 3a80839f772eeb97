/* The header compiles as C, and a C program gets through a whole answer. Called from capi_test.cpp. */
#include "smelt/smelt.h"

#include <string.h>

/* Returns 0, or the line that failed. */
int smeltAnswerInC(const char *path, const char *prompt, char *answer, size_t capacity) {
  smelt_model *model = NULL;
  smelt_session *session = NULL;
  smelt_session_options options = SMELT_SESSION_OPTIONS_INIT;
  smelt_generate_result result = SMELT_GENERATE_RESULT_INIT;
  smelt_generate_options generate = SMELT_GENERATE_OPTIONS_INIT;
  int32_t tokens[64], last;
  size_t count = 0, length = 0, i;
  if (smelt_model_open(path, NULL, &model) != SMELT_OK)
    return __LINE__;
  if (smelt_tokenize(model, prompt, strlen(prompt), 0, tokens, 64, &count) != SMELT_OK)
    return __LINE__;
  options.threads = 1;
  if (smelt_session_create(model, &options, &session) != SMELT_OK)
    return __LINE__;
  smelt_model_close(model); /* the session keeps what it needs */
  generate.max_tokens = 1;
  for (i = 0; i + 1 < capacity; ++i) {
    if (smelt_generate(session, 0, tokens, count, &generate, &result) != SMELT_OK)
      return __LINE__;
    const float *logits = smelt_logits(session, 0);
    last = 0;
    for (int32_t v = 1; v < 64; ++v)
      last = logits[v] > logits[last] ? v : last;
    answer[length++] = (char)(' ' + last);
    tokens[count++] = last;
  }
  answer[length] = '\0';
  smelt_session_free(session);
  return 0;
}
