// The same as gateway.c in C++: handles are freed and permits are settled by themselves, also when an exception passes.
//
//   c++ gateway.cpp $(pkg-config --cflags --libs tokenweir) -o gateway
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <tokenweir.h>
#include <utility>

template <typename T, void (*free)(T *)> struct Free {
    void operator()(T *handle) const { free(handle); }
};
template <typename T, void (*free)(T *)> using Handle = std::unique_ptr<T, Free<T, free>>;

using Policy = Handle<tokenweir_policy, tokenweir_policy_free>;
using Clock = Handle<tokenweir_clock, tokenweir_clock_free>;
using Limiter = Handle<tokenweir_limiter, tokenweir_limiter_free>;
using Text = Handle<tokenweir_text, tokenweir_text_free>;
using Error = Handle<tokenweir_error, tokenweir_error_free>;

// Makes an exception of what the library says of a call that failed.
template <typename Call> void done(Call call)
{
    tokenweir_error *raw = nullptr;
    tokenweir_code code = call(&raw);
    Error error(raw);
    if (code != TOKENWEIR_OK)
        throw std::runtime_error(std::string(tokenweir_code_name(code)) + ": " + tokenweir_error_message(raw));
}

template <typename Owner, typename Make> Owner made(Make make)
{
    typename Owner::pointer handle = nullptr;
    done([&](tokenweir_error **error) { return make(&handle, error); });
    return Owner(handle);
}

// What an admitted request holds. Destroyed without a word of usage it counts as used up.
class Permit {
public:
    Permit(const tokenweir_limiter *limiter, std::uint64_t id) : limiter_(limiter), id_(id) {}
    Permit(Permit &&other) noexcept : limiter_(other.limiter_), id_(std::exchange(other.id_, 0)) {}
    Permit(const Permit &) = delete;
    Permit &operator=(const Permit &) = delete;
    Permit &operator=(Permit &&) = delete;
    ~Permit()
    {
        if (id_ != 0)
            tokenweir_limiter_abandon(limiter_, id_, nullptr, nullptr, nullptr);
    }

    std::uint64_t id() const { return id_; }
    explicit operator bool() const { return id_ != 0; }

    bool observe(std::uint64_t input, std::uint64_t output) const
    {
        std::uint32_t spent = 0;
        done([&](tokenweir_error **error) {
            return tokenweir_limiter_observe(limiter_, id_, input, output, nullptr, &spent, error);
        });
        return spent != 0;
    }

    tokenweir_settlement settle(const tokenweir_usage &usage)
    {
        tokenweir_settlement settlement = tokenweir_settlement_init();
        done([&](tokenweir_error **error) {
            return tokenweir_limiter_settle(limiter_, id_, &usage, nullptr, &settlement, error);
        });
        id_ = 0;
        return settlement;
    }

    void cancel()
    {
        done([&](tokenweir_error **error) {
            return tokenweir_limiter_cancel(limiter_, id_, nullptr, nullptr, error);
        });
        id_ = 0;
    }

private:
    const tokenweir_limiter *limiter_;
    std::uint64_t id_;
};

static Permit admit(const Limiter &limiter, const char *project, std::uint64_t input, std::uint64_t output)
{
    tokenweir_request request = tokenweir_request_of(project, "gpt-4o");
    tokenweir_estimate estimate = tokenweir_estimate_of(input, output);
    tokenweir_decision decision = tokenweir_decision_init();
    done([&](tokenweir_error **error) {
        return tokenweir_limiter_admit(limiter.get(), &request, &estimate, nullptr, &decision, nullptr, error);
    });
    if (decision.admitted)
        std::printf("%s: admitted\n", project);
    else
        std::printf("%s: denied by %s, status %" PRIu32 ", %" PRIu64 " ms to wait, Retry-After: %" PRIu64 "\n", project,
                    decision.limit, decision.status, decision.retry_after_ns / 1000000, decision.retry_after_seconds);
    return Permit(limiter.get(), decision.permit);
}

static const char POLICY[] = R"(
[[limit]]
name = 'project rpm'
meter = 'requests'
algorithm = 'bucket'
amount = 600
per = '1m'
scope = ['project']

[[limit]]
name = 'project tpm'
meter = 'total'
algorithm = 'bucket'
amount = 10_000
burst = 2_000
per = '1m'
scope = ['project', 'deployment']

[[limit]]
name = 'deployment window'
meter = 'total'
algorithm = 'window'
amount = 60_000
per = '1m'
scope = ['deployment']

[[limit]]
name = 'project month'
meter = 'total'
algorithm = 'quota'
amount = 50_000_000
period = 'monthly'
scope = ['project']
)";

static void run()
{
    Policy policy = made<Policy>([](tokenweir_policy **policy, tokenweir_error **error) {
        return tokenweir_policy_from_toml(POLICY, sizeof POLICY - 1, policy, error);
    });
    Clock clock = made<Clock>([](tokenweir_clock **clock, tokenweir_error **error) {
        return tokenweir_clock_new_manual(nullptr, clock, error);
    });
    Limiter limiter = made<Limiter>([&](tokenweir_limiter **limiter, tokenweir_error **error) {
        tokenweir_options options = tokenweir_options_init();
        options.clock = clock.get();
        return tokenweir_limiter_new(policy.get(), &options, limiter, error);
    });

    bool spent = false;
    Permit search = admit(limiter, "search", 900, 400);
    for (int chunk = 0; chunk < 4; chunk++)
        spent = search.observe(0, 95);
    std::printf("search: 380 tokens streamed, spent: %d\n", spent);
    tokenweir_usage usage = tokenweir_usage_of(912, 380);
    usage.cached_input = 512;
    tokenweir_settlement settlement = search.settle(usage);
    std::printf("search: settled %" PRIu64 " input, %" PRIu64 " of them cached, %" PRIu64 " output\n", settlement.input,
                settlement.cached_input, settlement.output);

    Permit chat = admit(limiter, "chat", 1200, 400);
    admit(limiter, "chat", 1000, 500);
    Text json = made<Text>([&](tokenweir_text **json, tokenweir_error **error) {
        return tokenweir_limiter_permit(limiter.get(), chat.id(), nullptr, json, error);
    });
    std::printf("chat: %s\n", std::strstr(tokenweir_text_chars(json.get()), "\"remaining\""));
    chat.cancel();
    // This one is let go without a word, and counts as used up.
    admit(limiter, "chat", 1000, 500);

    tokenweir_stats stats = tokenweir_stats_init();
    done([&](tokenweir_error **error) { return tokenweir_limiter_stats(limiter.get(), &stats, error); });
    if (stats.permits_open != 0)
        throw std::logic_error("a permit was left open");
}

int main()
{
    try {
        run();
    } catch (const std::exception &failed) {
        std::fprintf(stderr, "%s\n", failed.what());
        return 1;
    }
}
