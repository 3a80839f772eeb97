# lit over the *.mlir files of tests/passes; ctest calls it folder by folder (smelt_add_lit_tests).
import lit.formats

config.name = "smelt-passes"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir"]
config.test_source_root = lit_config.params["source"]
config.test_exec_root = lit_config.params["binary"]
config.substitutions.append(("smelt-opt", lit_config.params["opt"]))
config.substitutions.append(("FileCheck", lit_config.params["filecheck"]))
