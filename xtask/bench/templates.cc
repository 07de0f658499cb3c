// What a compiler has to think about.
#include <algorithm>
#include <functional>
#include <map>
#include <regex>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

template <int N> struct Count {
	using Type = std::tuple<std::vector<typename Count<N - 1>::Type>, std::map<int, std::string>>;
};

template <> struct Count<0> {
	using Type = std::variant<int, std::string>;
};

template <int N> int build()
{
	typename Count<N>::Type value;
	std::function<int(int)> next = [](int n) { return n + 1; };
	return next(static_cast<int>(std::get<1>(value).size())) + build<N - 1>();
}

template <> int build<0>()
{
	return 0;
}

int use(const std::string &text)
{
	std::regex pattern("([a-z]+)[0-9]*");
	std::vector<std::string> words{text, "other"};
	std::sort(words.begin(), words.end());
	return build<8>() + std::regex_match(words[0], pattern);
}
