namespace VirtBackup.Nbd.Tests;
public sealed class SmokeTests { [Fact] public void Runs() => Assert.True(Core.Id16.Empty.IsEmpty); }
