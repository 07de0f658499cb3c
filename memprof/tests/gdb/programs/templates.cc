// Exceptions, templates, virtual calls, recursion and three threads.
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>
#include <pthread.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

struct Shape {
    virtual ~Shape() = default;
    virtual std::string name(int depth) const = 0;
};

template <int N> struct Polygon : Shape {
    std::vector<std::unique_ptr<Shape>> parts;
    NOINLINE std::string name(int depth) const override {
        std::string result = "a polygon of " + std::to_string(N) + " corners, at depth " + std::to_string(depth);
        for (auto &part : parts) result += part->name(depth + 1);
        return result;
    }
};

template <int N> NOINLINE std::unique_ptr<Shape> make(int depth) {
    auto shape = std::make_unique<Polygon<N>>();
    if constexpr (N < 12)
        if (depth > 0) shape->parts.push_back(make<N + 1>(depth - 1));
    return shape;
}

struct alignas(64) Wide { char bytes[128]; };

struct Failure : std::runtime_error {
    std::vector<int> path;
    Failure(const std::string &what, int depth) : runtime_error(what), path(depth, 1) {}
};

// Its frame is found by the frame pointer, since its size is not known.
NOINLINE int throws(int depth, int size) {
    volatile char area[size];
    area[size - 1] = 1;
    std::unique_ptr<std::string> guard(new std::string(40 + depth, 'g'));
    if (depth == 0) throw Failure("thrown where nothing more can be called", size);
    return throws(depth - 1, size + 8) + area[size - 1];
}

NOINLINE int catches(int depth) {
    try {
        return throws(depth, 16);
    } catch (const Failure &failure) {
        std::ostringstream text;
        text << failure.what() << ' ' << failure.path.size() << ' ' << depth;
        if (depth > 0) {
            try {
                throw;
            } catch (std::exception &again) {
                return catches(depth - 1) + text.str().size();
            }
        }
        return text.str().size();
    }
}

template <typename Key> NOINLINE size_t counts(int limit) {
    std::map<Key, std::vector<int>> sorted;
    std::unordered_map<Key, std::shared_ptr<Wide>> hashed;
    for (int i = 0; i < limit; i++) {
        Key key{};
        if constexpr (std::is_same_v<Key, std::string>) key = "a key that is not short: " + std::to_string(i % 7);
        else key = i % 7;
        sorted[key].push_back(i);
        hashed.emplace(key, std::make_shared<Wide>());
    }
    return sorted.size() + hashed.size();
}

NOINLINE int work(int seed) {
    std::function<int(int)> step = [&](int n) -> int {
        auto block = std::make_unique<std::vector<long>>(n + seed);
        return n > 0 ? step(n - 1) + block->size() : 0;
    };
    auto shape = make<3>(seed);
    int sum = step(8) + catches(seed) + counts<int>(20) + counts<std::string>(12) + shape->name(0).size();
    delete new Wide;
    return sum;
}

int main() {
    char line;
    if (read(0, &line, 1) != 1) return 1;
    std::vector<std::thread> threads;
    std::vector<int> sums(3);
    // Lest one ends before another starts, and leaves it what it would have had to allocate.
    pthread_barrier_t all_run;
    pthread_barrier_init(&all_run, nullptr, 3);
    for (int seed = 1; seed <= 3; seed++)
        threads.emplace_back([&, seed] { pthread_barrier_wait(&all_run); sums[seed - 1] = work(seed * 2); });
    for (auto &thread : threads) thread.join();
    return std::accumulate(sums.begin(), sums.end(), work(5)) == 0;
}
