using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;
using VirtBackup.Hypervisors.State;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// Saves memory and processors of a machine into a file of the capture's folder, by QEMU itself and at full speed, so that nothing
/// behind it ever makes the guest wait. Live: QEMU protects the memory against writes (userfaultfd), lets the guest go on, and saves
/// each page before it is overwritten. Otherwise the guest stands still meanwhile.
/// </summary>
internal sealed class StateSave(QmpClient qmp, QemuMachine machine, QemuDriverContext context, string folder, StateCapture mode) : IDisposable
{
    /// <summary>By which QEMU knows the open file.</summary>
    public const string FileName = "virtbackup-state";
    private const int KeepSize = 1; // FALLOC_FL_KEEP_SIZE
    private const int NoSpace = 28; // ENOSPC
    /// <summary>Devices, firmware and display memory, besides the machine's own.</summary>
    private const long BesidesBytes = 320L << 20;
    /// <summary>However large its memory, a guest that stands still for longer is of more harm than a backup without it.</summary>
    private static readonly TimeSpan StandStillMax = TimeSpan.FromMinutes(10);
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(5);
    private static readonly TimeSpan DrainPollInterval = TimeSpan.FromMilliseconds(25);
    private readonly MigrationSettings settings = new(folder);
    private SafeFileHandle? file;

    public bool IsLive => mode == StateCapture.Live;

    /// <summary>For how long the guest stood still, by QEMU's clock; known when it goes on.</summary>
    public TimeSpan Paused { get; private set; }

    /// <summary>For people, when the guest goes on.</summary>
    public string Detail => string.Create(System.Globalization.CultureInfo.InvariantCulture,
        $"Memory and processors were captured at the same instant, for which the guest stood still for {Paused.TotalMilliseconds:0} ms. Restored without them, the disks are crash-consistent.");

    private string SpoolPath => Path.Combine(folder, "state");

    /// <summary>All that may fail before the guest is touched: what forbids it, room, settings, the file.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Unsupported"/> or <see cref="FaultReason.DeviceFull"/>, with what to do instead.</exception>
    public async Task PrepareAsync(CancellationToken cancellationToken)
    {
        var migration = await qmp.ExecuteAsync("query-migrate", null, cancellationToken);
        if (MigrationSettings.IsUnderWay(migration.FindText("status")))
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The running state of {machine.Name} cannot be captured while it is being migrated. Wait for the end of that.");
        }
        if (migration.Find("blocked-reasons") is { ValueKind: JsonValueKind.Array } reasons && reasons.GetArrayLength() > 0)
        {
            throw new FaultException(FaultReason.Unsupported,
                $"The running state of {machine.Name} cannot be captured: {string.Join(" ", reasons.EnumerateArray().Select(reason => JsonFields.AsText(reason, "blocked-reasons")))}. Back up without it.");
        }
        await ReserveAsync(cancellationToken);
        try
        {
            await settings.ApplyAsync(qmp, IsLive, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.FailedPrecondition)
        {
            throw new FaultException(FaultReason.Unsupported, $"The running state of {machine.Name} cannot be captured{(IsLive
                ? $" while its guest goes on: {fault.Message} Shared memory, huge pages, and kernels without write protection by userfaultfd forbid it. Have the guest stand still until its memory is saved ('--state stop')" : $": {fault.Message} Update QEMU")}, or back up without it.", fault);
        }
        await qmp.ExecuteWithFileAsync("getfd", new JsonObject { ["fdname"] = FileName }, file!, cancellationToken);
    }

    /// <summary>Bytes that the saved state of a machine can take.</summary>
    public static async Task<long> MeasureAsync(QmpClient qmp, CancellationToken cancellationToken)
    {
        var memory = await qmp.ExecuteAsync("query-memory-size-summary", null, cancellationToken);
        var bytes = memory.Number("base-memory") + (memory.Find("plugged-memory") is null ? 0 : memory.Number("plugged-memory"));
        // Each page has its address with it.
        return bytes + (bytes / 256) + BesidesBytes;
    }

    private async Task ReserveAsync(CancellationToken cancellationToken)
    {
        var reserved = await MeasureAsync(qmp, cancellationToken);
        var free = FreeSpace.Of(folder);
        if (free < reserved + context.Options.FleeceFreeBytesMin)
        {
            throw Full(reserved, free);
        }
        file = File.OpenHandle(SpoolPath, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
        // The length of the file is to tell how much was saved.
        if (Allocate(file, KeepSize, 0, reserved) != 0 && Marshal.GetLastPInvokeError() == NoSpace)
        {
            throw Full(reserved, FreeSpace.Of(folder));
        }
    }

    private FaultException Full(long needed, long free) => new(FaultReason.DeviceFull,
        $"The running state of {machine.Name} needs {needed >> 20} MiB in the fleece folder {context.Options.FleeceFolder} until it is sent, besides {context.Options.FleeceFreeBytesMin >> 20} MiB for the disks; {free >> 20} MiB are free. Free space, name another folder, or back up without it.");

    /// <summary>Drops what was reported before, so that only this cut's stop and go on are seen.</summary>
    public async Task ForgetEventsAsync(CancellationToken cancellationToken)
    {
        await qmp.TakeEventsAsync("STOP", cancellationToken);
        await qmp.TakeEventsAsync("RESUME", cancellationToken);
    }

    /// <summary>Begins saving a guest that stands still. Live: returns when the guest goes on, by QEMU's doing.</summary>
    /// <param name="limit">Null: as long as a guest may stand still at all.</param>
    /// <param name="renew">Called while the guest stands still, for whoever watches over that.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the guest still stands still, or did not stand still all the time.</exception>
    public async Task SaveAsync(TimeSpan? limit, Func<Task> renew)
    {
        // Whatever ran since the stop would be in the memory and not on the disks.
        RequireStill(await qmp.TakeEventsAsync("RESUME", CancellationToken.None));
        await qmp.ExecuteAsync("migrate", new JsonObject { ["uri"] = $"fd:{FileName}" }, CancellationToken.None);
        var most = limit ?? StandStillMax;
        var started = context.Time.GetTimestamp();
        var renewed = started;
        while (true)
        {
            var status = await QueryAsync(CancellationToken.None);
            if (!IsLive && status == "completed")
            {
                return;
            }
            if (IsLive && await qmp.TakeEventsAsync("RESUME", CancellationToken.None) is [var resumed, ..])
            {
                var stops = await qmp.TakeEventsAsync("STOP", CancellationToken.None);
                Paused = stops is [var stopped] ? resumed.At - stopped.At : throw Moved();
                return;
            }
            if (context.Time.GetElapsedTime(started) > most)
            {
                throw new FaultException(FaultReason.HypervisorUnavailable, $"QEMU did not save so much of {machine.Name} within {most.TotalSeconds:0.#} s that it could go on; its running state was given up.");
            }
            if (context.Time.GetElapsedTime(renewed) > TimeSpan.FromSeconds(1))
            {
                renewed = context.Time.GetTimestamp();
                await renew();
            }
            await Task.Delay(IsLive ? PollInterval : DrainPollInterval, context.Time, CancellationToken.None);
        }
    }

    /// <summary>Notes how long the guest stood still, behind its going on by our doing.</summary>
    public async Task NoteResumedAsync()
    {
        var (stops, resumes) = (await qmp.TakeEventsAsync("STOP", CancellationToken.None), await qmp.TakeEventsAsync("RESUME", CancellationToken.None));
        Paused = (stops, resumes) is ([var stopped], [var resumed]) ? resumed.At - stopped.At : throw Moved();
    }

    private void RequireStill(IReadOnlyList<QmpEvent> resumes)
    {
        if (resumes.Count > 0)
        {
            throw Moved();
        }
    }

    private FaultException Moved() => new(FaultReason.FailedPrecondition,
        $"Somebody else let {machine.Name} go on or stopped it during the cut, so that its memory and its disks are not of one instant. Run the backup again.");

    /// <summary>Waits until all is saved, puts the machine's settings back, and opens what was saved.</summary>
    public async Task<SpooledState> FinishAsync(CancellationToken cancellationToken)
    {
        while (await QueryAsync(cancellationToken) != "completed")
        {
            await Task.Delay(DrainPollInterval, context.Time, cancellationToken);
        }
        await settings.RestoreAsync(qmp, context.Time, cancellationToken);
        return SpooledState.Open(SpoolPath, StateNames.MemoryOf(machine.Uuid), StateNames.DevicesOf(machine.Uuid));
    }

    private async Task<string?> QueryAsync(CancellationToken cancellationToken)
    {
        var migration = await qmp.ExecuteAsync("query-migrate", null, cancellationToken);
        var status = migration.FindText("status");
        return status == "completed" || MigrationSettings.IsUnderWay(status)
            ? status
            : throw new FaultException(FaultReason.FailedPrecondition,
                $"QEMU did not save the running state of {machine.Name} ({status}{(migration.FindText("error-desc") is { } why ? $": {why}" : "")}). Is the fleece folder {context.Options.FleeceFolder} full?");
    }

    /// <summary>Ends saving, so that the guest can be let go on.</summary>
    public Task CancelAsync() => settings.CancelAsync(qmp, context.Time, CancellationToken.None);

    public void Dispose() => file?.Dispose();

    [DllImport("libc", EntryPoint = "fallocate", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Allocate(SafeFileHandle file, int mode, long offset, long length);
}
