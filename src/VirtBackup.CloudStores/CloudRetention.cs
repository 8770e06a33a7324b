using VirtBackup.CloudStores.Requests;
using VirtBackup.Core;

namespace VirtBackup.CloudStores;

/// <summary>Retention of a store's objects by its provider. Safe for concurrent use.</summary>
/// <param name="requireOwnership">Throws when another controller owns the store by now.</param>
internal sealed class CloudRetention(ICloudRequests requests, string prefix, RequestRunner runner, bool isFinal, Action<string> requireOwnership) : IObjectRetention
{
    private static readonly long s_latestMs = DateTimeOffset.MaxValue.ToUnixTimeMilliseconds() - 1000;

    public bool IsFinal => isFinal;

    public async ValueTask RequireAsync(CancellationToken cancellationToken) => await RunAsync(
        "have objects retained",
        "",
        async token =>
        {
            await requests.RequireRetentionAsync(token);
            return true;
        },
        cancellationToken);

    public async ValueTask RetainAsync(string key, long untilMs, CancellationToken cancellationToken)
    {
        ObjectKey.Require(key);
        // Providers know whole seconds.
        var until = DateTimeOffset.FromUnixTimeSeconds((Math.Min(untilMs, s_latestMs) + 999) / 1000);
        await RunAsync(
            $"retain {key}",
            key,
            async token =>
            {
                requireOwnership(key);
                await requests.RetainAsync(prefix + key, until, token);
                return true;
            },
            cancellationToken);
    }

    public async ValueTask<long> FindAsync(string key, CancellationToken cancellationToken)
    {
        ObjectKey.Require(key);
        return await RunAsync($"ask for the retention of {key}", key, token => requests.FindRetentionAsync(prefix + key, token), cancellationToken) is { } until
            ? until.ToUnixTimeMilliseconds()
            : 0;
    }

    private async ValueTask<T> RunAsync<T>(string action, string key, Func<CancellationToken, Task<T>> attempt, CancellationToken cancellationToken) => await runner.RunAsync(
        action,
        0,
        async token =>
        {
            try
            {
                return await attempt(token);
            }
            catch (CloudRequestException missing) when (missing.Kind == FailureKind.NotFound)
            {
                throw new FaultException(FaultReason.NotFound, $"The object {key} is not in {requests.Location}.", missing);
            }
        },
        cancellationToken);
}
