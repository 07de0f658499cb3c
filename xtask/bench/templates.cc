// What a compiler has to think about.
#include <map>
#include <string>
#include <tuple>
#include <vector>

template <int N> struct Count {
	using Type = std::tuple<std::vector<typename Count<N - 1>::Type>, std::map<int, std::string>>;
};

template <> struct Count<0> {
	using Type = std::string;
};

template <int N> int build()
{
	typename Count<N>::Type value;
	return static_cast<int>(std::get<1>(value).size()) + build<N - 1>();
}

template <> int build<0>()
{
	return 0;
}

int use()
{
	return build<4>();
}
