using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// A freeze, and right behind it, on the same thread and by the same handle, the cut and the thaw: a guest that stands still waits for
/// no other thread of ours, however busy the host is. Each outcome is told when it is known. Used once.
/// </summary>
/// <param name="cut">Makes the cut; fails with what libvirt says.</param>
internal sealed class FrozenCut(LibvirtConnection connection, Id16 machine, Action<DomainHandle> cut)
{
    private const int Open = 0, UnderWay = 1, GivenUp = 2;
    private readonly TaskCompletionSource<int> frozen = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource made = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource<int> thawed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int state;

    /// <summary>Whether the cut is made behind the freeze: <see cref="Made"/> tells of it. Otherwise it is still to be made.</summary>
    public bool IsUnderWay => Volatile.Read(ref state) == UnderWay;

    /// <summary>The cut, when the freeze came in time.</summary>
    public Task Made => made.Task;

    /// <summary>How many file systems were thawed behind a cut that was made. One that failed may be tried once more: the guest is still frozen.</summary>
    public Task<int> Thawed => thawed.Task;

    /// <summary>Freezes, and goes on by itself when there was something to freeze.</summary>
    /// <returns>How many file systems were frozen.</returns>
    public Task<int> FreezeAsync(CancellationToken cancellationToken)
    {
        _ = RunAsync(cancellationToken);
        return frozen.Task;
    }

    /// <summary>The freeze is not waited for any longer, and nothing is to be done behind it.</summary>
    /// <returns>False: it has come just now, and the cut is under way.</returns>
    public bool TryGiveUp() => Interlocked.CompareExchange(ref state, GivenUp, Open) == Open;

    private async Task RunAsync(CancellationToken cancellationToken)
    {
        try
        {
            await connection.StartAsync(
                libvirt =>
                {
                    Run(libvirt);
                    return true;
                }, cancellationToken);
        }
        catch (Exception failure) when (failure is LibvirtFailure or FaultException or OperationCanceledException)
        {
            frozen.TrySetException(failure);
        }
    }

    private void Run(ConnectionHandle libvirt)
    {
        using var domain = Domains.Find(libvirt, machine);
        var count = LibvirtValues.Require(LibvirtCalls.Freeze(domain, 0, 0, 0));
        if (count == 0 || Interlocked.CompareExchange(ref state, UnderWay, Open) != Open)
        {
            frozen.SetResult(count);
            return;
        }
        frozen.SetResult(count);
        try
        {
            connection.Guard(libvirt, () => cut(domain));
        }
        catch (Exception failure) when (failure is LibvirtFailure or FaultException)
        {
            made.SetException(failure);
            return;
        }
        made.SetResult();
        try
        {
            thawed.SetResult(LibvirtValues.Require(LibvirtCalls.Thaw(domain, 0, 0, 0)));
        }
        catch (LibvirtFailure failure)
        {
            thawed.SetException(failure);
        }
    }
}
