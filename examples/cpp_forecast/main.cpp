// Forecasts what follows the last rows of a table, from a pack of `sparseflow forecast export`, without Python.
//
//   cmake -S examples/cpp_forecast -B build/cpp_forecast && cmake --build build/cpp_forecast
//   build/cpp_forecast/forecast PACK                 holds the pack's own windows to the forecasts in it
//   build/cpp_forecast/forecast PACK readings.csv    prints JSON: columns, the date before, and a row for each step ahead
//
// The table has a header, a row for each point of time and a column for each series, found by name; where the pack has
// no names, its last columns are the series. A third and fourth argument are threads and instruction set.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "capi/forecaster.h"

namespace {

struct Close {
  void operator()(sparseflow_forecaster* f) const { sparseflow_forecaster_close(f); }
};
using Forecaster = std::unique_ptr<sparseflow_forecaster, Close>;
using Row = std::vector<std::string>;

void check(int status) {
  if (status != SPARSEFLOW_OK) throw std::runtime_error(sparseflow_forecaster_error());
}

std::vector<Row> read_table(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<Row> rows;
  for (std::string line, cell; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    Row row;
    for (std::istringstream in(line); std::getline(in, cell, ',');) row.push_back(cell);
    if (!rows.empty() && row.size() != rows[0].size())
      throw std::runtime_error(path + " has a row of " + std::to_string(row.size()) + " cells: " + line);
    rows.push_back(row);
  }
  return rows;
}

std::vector<size_t> find_columns(const sparseflow_forecaster* f, const Row& header) {
  std::vector<size_t> found;
  const size_t series = static_cast<size_t>(sparseflow_forecaster_series(f));
  if (header.size() < series) throw std::runtime_error("the table has fewer columns than the network has series");
  for (size_t v = 0; v < series; ++v) {
    const std::string name = sparseflow_forecaster_name(f, static_cast<int64_t>(v));
    size_t column = header.size() - series + v;
    if (!name.empty())
      for (column = 0; column < header.size() && header[column] != name;) ++column;
    if (column == header.size()) throw std::runtime_error("the table has no column '" + name + "'");
    found.push_back(column);
  }
  return found;
}

double number(const std::string& cell) {
  char* end = nullptr;
  const double value = std::strtod(cell.c_str(), &end);
  if (end == cell.c_str() || *end) throw std::runtime_error("'" + cell + "' is no number");
  return value;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

void forecast(const sparseflow_forecaster* f, const std::string& path, int threads) {
  const std::vector<Row> rows = read_table(path);
  const size_t length = static_cast<size_t>(sparseflow_forecaster_readings(f));
  const size_t horizon = static_cast<size_t>(sparseflow_forecaster_horizon(f));
  if (rows.size() < length + 1)
    throw std::runtime_error(path + " has " + std::to_string(rows.size()) + " lines; expected a header and " +
                             std::to_string(length) + " rows");
  const std::vector<size_t> columns = find_columns(f, rows[0]);
  std::vector<double> readings, ahead(columns.size() * horizon);
  for (size_t v = 0; v < columns.size(); ++v) {
    const int64_t series = static_cast<int64_t>(v);
    const double mean = sparseflow_forecaster_mean(f, series), deviation = sparseflow_forecaster_deviation(f, series);
    for (size_t i = rows.size() - length; i < rows.size(); ++i)
      readings.push_back((number(rows[i][columns[v]]) - mean) / deviation);
  }
  check(sparseflow_forecaster_predict(f, readings.data(), ahead.data(), 1, threads));
  std::printf("{\"columns\": [");
  for (size_t v = 0; v < columns.size(); ++v) std::printf("%s%s", v ? ", " : "", quoted(rows[0][columns[v]]).c_str());
  const bool dated = columns[0] > 0;
  std::printf("],\n \"after\": %s,\n \"values\": [", dated ? quoted(rows.back()[0]).c_str() : "null");
  for (size_t h = 0; h < horizon; ++h) {
    std::printf("%s[", h ? ",\n  " : "");
    for (size_t v = 0; v < columns.size(); ++v) {
      const int64_t series = static_cast<int64_t>(v);
      const double value = ahead[v * horizon + h] * sparseflow_forecaster_deviation(f, series);
      std::printf("%s%.17g", v ? ", " : "", value + sparseflow_forecaster_mean(f, series));
    }
    std::printf("]");
  }
  std::printf("]}\n");
}

int run(int argc, char** argv) {
  const int threads = argc > 3 ? std::atoi(argv[3]) : 1;
  sparseflow_forecaster* opened = nullptr;
  check(sparseflow_forecaster_open(argv[1], argc > 4 ? argv[4] : "auto", &opened));
  const Forecaster f(opened);
  if (argc > 2) {
    forecast(f.get(), argv[2], threads);
    return 0;
  }
  int64_t numbers = 0, unlike = 0;
  check(sparseflow_forecaster_check(f.get(), threads, &numbers, &unlike));
  std::printf("{\"numbers\": %lld, \"unlike\": %lld}\n", static_cast<long long>(numbers), static_cast<long long>(unlike));
  return unlike != 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 5) {
    std::cerr << "usage: " << argv[0] << " PACK [readings.csv [threads [isa]]]\n";
    return 2;
  }
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return 1;
  }
}
