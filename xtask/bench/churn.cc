// churn CHANGES: a map of strings in which the oldest of a thousand entries makes room for a new one, CHANGES times. A change is three
// allocations and three frees: a node and two strings too long to be kept within.
#include <map>
#include <string>

#include "clock.h"
#include "calls.h"

static std::string name(long number)
{
	std::string digits = std::to_string(1000000000 + number);
	return digits.insert(0, 30, 'n');
}

__attribute__((noinline)) static void churn(long changes)
{
	std::map<std::string, std::string> entries;
	for (long change = 0; change < changes; change++) {
		entries.emplace(name(change), name(-change));
		if (entries.size() > 1000)
			entries.erase(entries.begin());
	}
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	uint64_t start = nanoseconds();
	churn(atol(argv[1]));
	leak_below(10);
	report_work(STDOUT_FILENO, start);
	stay();
	return 0;
}
