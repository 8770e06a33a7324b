using System.ComponentModel;
using System.Diagnostics;
using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Guests;

/// <summary>
/// A guard that is a process of its own for each guest: it is told by a pipe, and the pipe's end is this process's death, which
/// the kernel reports however it came.
/// </summary>
/// <param name="program">The program that runs a <see cref="FreezeWatch"/> on its standard streams.</param>
/// <param name="arguments">What makes it do so.</param>
public sealed class WatchdogGuard(string program, IReadOnlyList<string> arguments, TimeProvider time) : IFreezeGuard
{
    private static readonly TimeSpan StartMax = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan AnswerMax = TimeSpan.FromSeconds(5);

    public async ValueTask<IFreezeLease> ArmAsync(FreezeTarget target, TimeSpan limit, CancellationToken cancellationToken)
    {
        var lease = new Lease(Start(), time);
        try
        {
            return await lease.AskAsync(new WatchOrder((long)limit.TotalMilliseconds, target), StartMax, cancellationToken) is not null
                ? lease : throw new FaultException(FaultReason.Unavailable,
                    $"The thaw watchdog ({program}) did not begin its watch; without it the guest is not frozen. Its message is in the agent's log.");
        }
        catch
        {
            await lease.DisposeAsync();
            throw;
        }
    }

    private Process Start()
    {
        // Its standard error is the agent's: the journal has its messages even when the agent is gone.
        var start = new ProcessStartInfo(program) { UseShellExecute = false, RedirectStandardInput = true, RedirectStandardOutput = true };
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }
        try
        {
            return Process.Start(start) ?? throw new InvariantException($"{program} gave no process.");
        }
        catch (Win32Exception failure)
        {
            throw new FaultException(FaultReason.Unavailable, $"The thaw watchdog {program} could not be started ({failure.Message}); without it the guest is not frozen.", failure);
        }
    }

    private sealed class Lease(Process process, TimeProvider time) : IFreezeLease
    {
        public async ValueTask RenewAsync(TimeSpan limit, CancellationToken cancellationToken) =>
            await AskAsync(new WatchOrder((long)limit.TotalMilliseconds), AnswerMax, cancellationToken);

        public async ValueTask<bool> DisarmAsync() =>
            // A watchdog that was killed has not acted.
            await AskAsync(new WatchOrder(0, Disarm: true), AnswerMax, CancellationToken.None) is not { Acted: true };

        public async Task<WatchAnswer?> AskAsync(WatchOrder order, TimeSpan limit, CancellationToken cancellationToken)
        {
            using var deadline = new CancellationTokenSource(limit, time);
            using var linked = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellationToken);
            try
            {
                await process.StandardInput.WriteLineAsync(JsonSerializer.Serialize(order).AsMemory(), linked.Token);
                await process.StandardInput.FlushAsync(linked.Token);
                return await process.StandardOutput.ReadLineAsync(linked.Token) is { } line ? JsonSerializer.Deserialize<WatchAnswer>(line) : null;
            }
            catch (Exception failure) when (failure is IOException or JsonException || (failure is OperationCanceledException && !cancellationToken.IsCancellationRequested))
            {
                return null;
            }
        }

        public ValueTask DisposeAsync()
        {
            try
            {
                process.StandardInput.Close();
            }
            catch (IOException)
            {
                // It has ended.
            }
            process.Dispose();
            return ValueTask.CompletedTask;
        }
    }
}
