using VirtBackup.Core;
using VirtBackup.Testing.Platforms;

namespace VirtBackup.Hypervisors.Tests.Conformance;

/// <summary>What befalls a driver at one of its calls.</summary>
public enum Trouble
{
    Killed,
    KilledAfterEffect,
    Refused,
    AnswerLost,
    Cancelled,
}

/// <summary>One backup with one trouble, and all that must hold behind it.</summary>
internal static class FaultTrial
{
    /// <param name="book">Of a machine that was backed up before.</param>
    /// <param name="at">The number of the call, from 1 on.</param>
    /// <returns>True: the backup makes fewer calls than that, and met no trouble.</returns>
    public static async Task<bool> RunAsync(ServerMachine machine, PointBook book, Trouble trouble, int at, HypervisorConformance.End end, bool isCommitted)
    {
        var random = new Random(at);
        await machine.ScribbleAsync(random);
        var (link, cancel) = LinkWith(trouble, at);
        using (cancel)
        {
            await BackUpAsync(machine, book, link, end, isCommitted, random, cancel.Token);
        }
        var isOver = trouble == Trouble.Cancelled ? !cancel.IsCancellationRequested : link.Calls < at;
        await machine.ScribbleAsync(random);
        await machine.Connect().ReleaseGuestsAsync(default);
        var newest = book.NewestCommitted;
        Assert.Equal(newest, await book.SettleAsync(machine.Connect()));
        await machine.RequireTidyAsync();
        await machine.RequireTrackedAsync(book, newest!.Value);
        var made = await book.BackUpAsync(machine.Connect(), () => machine.ScribbleAsync(random));
        Assert.Equal(newest, made.Base);
        Assert.All(made.Disks, disk => Assert.True(disk.ChangedOnly, disk.Reason));
        Assert.All((await book.BackUpAsync(machine.Connect())).Disks, disk => Assert.True(disk.ChangedOnly, disk.Reason));
        return isOver;
    }

    public static (ServerLink Link, CancellationTokenSource Cancel) LinkWith(Trouble trouble, int at)
    {
        var cancel = new CancellationTokenSource();
        var isKill = trouble is Trouble.Killed or Trouble.KilledAfterEffect;
        var link = new ServerLink { DiesAt = isKill ? at : null, DiesAfterEffect = trouble == Trouble.KilledAfterEffect };
        FaultException? Fail(string operation, int number) => number == at ? new FaultException(FaultReason.HypervisorUnavailable, $"The answer to {operation} did not come.") : null;
        switch (trouble)
        {
            case Trouble.Refused:
                link.Refusal = Fail;
                break;
            case Trouble.AnswerLost:
                link.LostAnswer = Fail;
                break;
            case Trouble.Cancelled:
                link.OnCall = (_, number) =>
                {
                    if (number == at)
                    {
                        cancel.Cancel();
                    }
                };
                break;
        }
        return (link, cancel);
    }

    /// <summary>One run, which deals with what happens to it as an agent does; one that was killed deals with nothing.</summary>
    private static async Task BackUpAsync(
        ServerMachine machine, PointBook book, ServerLink link, HypervisorConformance.End end, bool isCommitted, Random random, CancellationToken cancellationToken)
    {
        var driver = machine.Connect(link);
        ICapture? capture = null;
        var isEnding = false;
        try
        {
            var basis = await driver.SettleByTokensAsync(machine.Id, book.Committed, book.Remembered, cancellationToken);
            var request = book.Request(basis);
            var reference = await machine.ReadAllAsync();
            capture = await driver.BeginCaptureAsync(request, cancellationToken);
            await machine.ScribbleAsync(random);
            await book.ReadAsync(capture, request);
            book.RequireEqual(request.Point, reference);
            if (isCommitted)
            {
                book.Committed.Add(request.Point);
            }
            isEnding = true;
            await (end switch
            {
                HypervisorConformance.End.Commit => capture.CommitAsync(cancellationToken),
                HypervisorConformance.End.Abandon => capture.AbandonAsync(cancellationToken),
                _ => capture.DetachAsync(cancellationToken),
            });
        }
        catch (Exception failure) when (failure is FaultException or OperationCanceledException)
        {
            if (capture is null || link.HasDied)
            {
                return;
            }
            if (isEnding && end == HypervisorConformance.End.Commit)
            {
                await capture.DetachAsync(CancellationToken.None);
            }
            await capture.DisposeAsync();
        }
    }
}
