using System.Runtime.InteropServices;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>A domain as it is at one moment.</summary>
/// <param name="Document">Of a running machine what it is now, else what it will be when started.</param>
/// <param name="Running">It is active, and its guest is not paused.</param>
/// <param name="HasSavedState">It is off, and its memory lies in a file: its disks are as if the power had been cut.</param>
internal sealed record DomainView(DomainDocument Document, string Xml, bool Active, bool Running, bool Persistent, bool HasSavedState, IReadOnlyList<LibvirtDisk> Disks)
{
    /// <summary>All disks as lists show them, and what is handed through to the guest past libvirt's disks.</summary>
    public IReadOnlyList<DiskSummary> Summaries => [.. Disks.Select(disk => disk.Summary), .. Document.HostDisks.Select(name =>
        new DiskSummary(DomainDocument.DiskId(Document.Uuid, name), name, 0, "raw", "the guest talks to the host's device directly (SCSI host device)"))];
}

/// <summary>Questions about domains, to be asked on the thread of a call.</summary>
internal static class Domains
{
    private const uint Secure = 1, Inactive = 2, Migratable = 8;
    private const int StateRunning = 1;
    private const uint NoDomain = 2, WithSize = 4, Topological = 2;
    private static readonly HashSet<string> NoneExcluded = [];

    public static DomainHandle Find(ConnectionHandle connection, Id16 uuid) => LibvirtValues.Require(LibvirtCalls.FindDomainByUuid(connection, uuid.ToUuidString()));

    public static DomainHandle? TryFind(ConnectionHandle connection, Id16 uuid)
    {
        var domain = LibvirtCalls.FindDomainByUuid(connection, uuid.ToUuidString());
        return domain.IsInvalid ? Absent(domain) : domain;
    }

    public static DomainHandle? TryFind(ConnectionHandle connection, string name)
    {
        var domain = LibvirtCalls.FindDomainByName(connection, name);
        return domain.IsInvalid ? Absent(domain) : domain;
    }

    public static string NameOf(DomainHandle domain) => Marshal.PtrToStringUTF8(LibvirtCalls.GetName(domain)) ?? throw LibvirtFailure.Last();

    public static bool IsActive(DomainHandle domain) => LibvirtValues.Require(LibvirtCalls.IsActive(domain)) == 1;

    /// <summary>Whether the machine is there and active.</summary>
    public static bool IsActive(ConnectionHandle connection, Id16 uuid)
    {
        using var domain = TryFind(connection, uuid);
        return domain is not null && IsActive(domain);
    }

    /// <summary>UUIDs and names of all domains.</summary>
    public static List<(Id16 Uuid, string Name)> List(ConnectionHandle connection)
    {
        var listed = new List<(Id16, string)>();
        Span<byte> uuid = stackalloc byte[Id16.Size];
        foreach (var domain in LibvirtValues.TakeAll<DomainHandle>(LibvirtCalls.ListDomains(connection, out var array, 0), array))
        {
            using (domain)
            {
                LibvirtValues.Require(LibvirtCalls.GetUuid(domain, ref uuid[0]));
                listed.Add((Id16.Read(uuid), NameOf(domain)));
            }
        }
        return listed;
    }

    public static DomainView Read(ConnectionHandle connection, Id16 uuid)
    {
        using var domain = Find(connection, uuid);
        return Read(domain, NoneExcluded);
    }

    public static DomainView Read(DomainHandle domain, IReadOnlySet<string> excluded)
    {
        var active = IsActive(domain);
        // What another host would need to go on with the machine is what a restore needs: the present devices, nothing of this run.
        var xml = LibvirtValues.TakeText(LibvirtCalls.GetXml(domain, Secure | (active ? Migratable : Inactive)));
        var present = DomainDocument.Parse(active ? LibvirtValues.TakeText(LibvirtCalls.GetXml(domain, 0)) : xml);
        var saved = !active && LibvirtCalls.HasSavedState(domain, 0) == 1;
        LibvirtValues.Require(LibvirtCalls.GetState(domain, out var state, out _, 0));
        return new DomainView(present, xml, active, state == StateRunning, LibvirtValues.Require(LibvirtCalls.IsPersistent(domain)) == 1, saved,
            [.. present.Disks.Select(disk => Measure(domain, present.Uuid, disk, excluded))]);
    }

    /// <summary>Our checkpoints, oldest first.</summary>
    /// <param name="measured">Also whether their bitmaps are whole; of running domains only.</param>
    public static List<CheckpointRecord> ReadCheckpoints(DomainHandle domain, bool measured)
    {
        var records = new List<CheckpointRecord>();
        foreach (var checkpoint in LibvirtValues.TakeAll<CheckpointHandle>(LibvirtCalls.ListCheckpoints(domain, out var array, Topological), array))
        {
            using (checkpoint)
            {
                // Only ours are asked for their size: another tool's may be broken.
                if (Marshal.PtrToStringUTF8(LibvirtCalls.GetName(checkpoint)) is { } name && CheckpointRecord.TryReadName(name, out _)
                    && CheckpointRecord.Parse(ReadCheckpoint(checkpoint, measured)) is { } record)
                {
                    records.Add(record);
                }
            }
        }
        return records;
    }

    /// <summary>Names of checkpoints that are not ours.</summary>
    public static List<string> ListOtherCheckpoints(DomainHandle domain)
    {
        var names = new List<string>();
        foreach (var checkpoint in LibvirtValues.TakeAll<CheckpointHandle>(LibvirtCalls.ListCheckpoints(domain, out var array, 0), array))
        {
            using (checkpoint)
            {
                if (Marshal.PtrToStringUTF8(LibvirtCalls.GetName(checkpoint)) is { } name && !CheckpointRecord.TryReadName(name, out _))
                {
                    names.Add(name);
                }
            }
        }
        return names;
    }

    private static string ReadCheckpoint(CheckpointHandle checkpoint, bool measured)
    {
        if (measured && LibvirtCalls.GetXml(checkpoint, NoDomain | WithSize) is var text && text != 0)
        {
            return LibvirtValues.TakeText(text);
        }
        return LibvirtValues.TakeText(LibvirtCalls.GetXml(checkpoint, NoDomain));
    }

    private static LibvirtDisk Measure(DomainHandle domain, Id16 machine, DomainDisk disk, IReadOnlySet<string> excluded)
    {
        var skip = disk.SkipReason ?? (excluded.Contains(disk.Target) ? "it is excluded" : null);
        BlockInfo info = default;
        string? problem = null;
        if (disk.Path is not null && LibvirtCalls.GetBlockInfo(domain, disk.Target, out info, 0) < 0 && skip is null)
        {
            // Never a reason to leave the disk out: it belongs to the machine.
            problem = $"Disk {disk.Target} cannot be read by libvirt: {LibvirtFailure.Last().Message}.";
        }
        else if (disk.Path is not null && info.Capacity == 0 && skip is null)
        {
            problem = $"Disk {disk.Target} cannot be read by libvirt: see whether {disk.Path} is there and is {disk.Format}.";
        }
        if (info.Capacity > Limits.DiskBytesMax)
        {
            throw FaultException.Malformed($"libvirt says that disk {disk.Target} has {info.Capacity} bytes.");
        }
        return new LibvirtDisk(new DiskSummary(DomainDocument.DiskId(machine, disk.Target), disk.Target, (long)info.Capacity, disk.Format, skip), disk,
            (long)Math.Min(info.Allocation, info.Capacity), disk.Format == "qcow2" && Qcow2Version.MayKeepBitmaps(disk.Path), problem);
    }

    private static DomainHandle? Absent(DomainHandle domain)
    {
        domain.Dispose();
        var failure = LibvirtFailure.Last();
        return failure.Code == LibvirtFailure.NoDomain ? null : throw failure;
    }
}
